"""The least-cost fleet: an abstract planning problem, its solvers, and what their answers mean."""
