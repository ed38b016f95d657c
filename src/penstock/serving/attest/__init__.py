"""Attestation evidence of live engines: requested, verified and renewed."""
