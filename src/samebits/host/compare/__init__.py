"""Compare two runs: what differs, from which ledger line on, and by how much."""
