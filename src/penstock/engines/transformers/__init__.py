"""Hugging Face transformers (extra ``transformers``): profiled, not served."""
