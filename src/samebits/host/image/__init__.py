"""The image and what it is made of: planned, built, rebuilt, listed."""
