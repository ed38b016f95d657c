"""Engines that are known by OpenAI's API alone."""
