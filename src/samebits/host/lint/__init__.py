"""`samebits check`: static rules over the source of a script."""
