"""Formats and values that `host` and `runner` share. Imports the standard library only, and neither of the two."""
