"""Adapters (LoRA) on live engines: where each is loaded, and loading and unloading."""
