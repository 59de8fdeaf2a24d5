"""Determinism: settings applied and read back, operations proven portable, randomness and operations that are not."""
