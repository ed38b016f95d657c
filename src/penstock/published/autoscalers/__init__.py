"""Autoscalers that others publish, as their sources and documents state them."""
