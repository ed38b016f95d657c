"""Loading and unloading one model on one device, for any engine."""
