"""`samebits check`: rules over a script's source."""
