"""Real engines behind HTTP: their streams, their metrics, and what is known of their state."""
