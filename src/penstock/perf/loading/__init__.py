"""How long weights take from disk over host memory to the device, and what is left where."""
