"""`samebits check --run`, `--cost` and `--resume`: short trial runs and their diagnosis."""
