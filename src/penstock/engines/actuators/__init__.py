"""Loading and unloading one model on one device, whatever the engine."""
