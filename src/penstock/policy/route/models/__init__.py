"""Routers that choose only the model; a dispatcher then chooses the replica."""
