"""A sweep: one run for each seed and each combination of a grid, and one summary of all."""
