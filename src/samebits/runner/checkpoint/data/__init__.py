"""Training data: its position and order."""
