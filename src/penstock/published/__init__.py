"""Guests: published systems, each with its policy, quirks, readers and figures in one folder.

Nothing in the core imports this package; ``registry`` names its policies, ``cli`` its commands.
"""
