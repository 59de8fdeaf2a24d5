"""`samebits check --run` and `--cost`: short experiments and their diagnosis."""
