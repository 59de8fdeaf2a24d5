"""The state of Python objects: captured as JSON and bytes, compared, and restored into the objects of a new process."""
