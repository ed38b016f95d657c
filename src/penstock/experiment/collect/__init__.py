"""The train phase: every prompt to one replica of each model, and what came of it kept as rows."""
