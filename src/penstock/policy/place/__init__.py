"""Which layers of a model lie on which devices, and who holds how much of their memory."""
