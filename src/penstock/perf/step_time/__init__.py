"""Step-time models: how long one forward pass takes."""
