"""A short run of `samebits check --run`, in the process that trains."""
