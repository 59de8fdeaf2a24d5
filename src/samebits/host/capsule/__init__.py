"""Capsules: a run with all that is needed to verify it, in one file."""
