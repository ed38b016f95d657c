"""Admission: rejection of requests before any work is spent on them."""
