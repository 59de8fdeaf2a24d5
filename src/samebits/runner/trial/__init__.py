"""A trial: a short run of `samebits check --run`, as seen by the process that trains."""
