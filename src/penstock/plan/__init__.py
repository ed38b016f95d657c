"""The least-cost fleet: candidates, an exact optimum over them, and a check by simulation."""
