"""Routers that choose the model alone, by the request: a dispatcher then chooses the replica."""
