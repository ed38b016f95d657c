"""Operating points that others measured on real accelerators, beside the simulator's answers."""
