"""Free disk space: remove runs, and what can be made again."""
