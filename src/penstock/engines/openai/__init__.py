"""Engines that Penstock knows only by OpenAI's API."""
