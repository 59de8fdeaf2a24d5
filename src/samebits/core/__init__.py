"""Formats and values that both halves share: the standard library only, and neither half."""
