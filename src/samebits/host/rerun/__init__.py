"""A run again: preflight, verify, resume, segments, the golden table."""
