"""Digests of the results of a training: tensors, models, output files."""
