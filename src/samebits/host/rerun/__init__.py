"""Run a recorded training again: preflight, verify, locate, resume, segments, the golden table."""
