"""Ollama: its dialect, and how its models are loaded and unloaded."""
