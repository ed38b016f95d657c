"""What was measured of a model on an engine: our own profile files, and other tools'."""
