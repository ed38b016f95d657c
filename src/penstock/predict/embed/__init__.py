"""Prompts as vectors: like prompts point in like directions."""
