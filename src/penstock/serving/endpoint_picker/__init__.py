"""Endpoint picker of the Gateway API inference extension: a gateway asks, Penstock chooses."""
