"""What differs between two runs, from which line on, and by how much."""
