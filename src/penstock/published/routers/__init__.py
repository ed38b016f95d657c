"""Routers that others publish and that weigh cached prefixes, as their sources state them."""
