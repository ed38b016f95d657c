"""Autoscalers' own files, read into the name, the settings and the bounds of a scale policy."""
