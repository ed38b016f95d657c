"""What is expected of a prompt on each model: answer length and quality, from prompts before it."""
