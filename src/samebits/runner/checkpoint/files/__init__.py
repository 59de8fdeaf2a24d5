"""Files that a script writes: what a checkpoint holds of them, and what it cannot hold."""
