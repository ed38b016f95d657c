"""Joint choice of model and replica: utility in money under hard requirements."""
