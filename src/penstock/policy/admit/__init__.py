"""Admission: refusals before any work is spent."""
