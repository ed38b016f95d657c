"""Estimates of models in their configurations: from folders of measurements to a choice."""
