"""The folder of runs: find, list and show them."""
