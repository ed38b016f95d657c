"""Inferno's model of one replica as a queue, in both published generations."""
