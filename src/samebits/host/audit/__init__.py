"""Check that a run's folder is as it was written: its ledger and its checkpoints."""
