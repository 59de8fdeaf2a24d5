"""`samebits check --run` and `--cost`: short trial runs and their diagnosis."""
