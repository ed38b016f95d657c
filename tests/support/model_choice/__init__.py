"""How well a predictor chooses between a weak, cheap model and a strong one."""
