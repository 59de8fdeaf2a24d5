"""Digests of what a training leaves: tensors, models, output files."""
