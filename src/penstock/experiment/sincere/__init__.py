"""SINCERE's grid, simulated: strategies, patterns, rates and objectives, confidential and not."""
