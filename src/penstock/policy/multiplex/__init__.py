"""Which models are on which devices, what runs next there, and who is turned away."""
