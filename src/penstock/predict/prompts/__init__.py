"""Forecasts for a prompt on each model: answer length and quality, learnt from earlier prompts."""
