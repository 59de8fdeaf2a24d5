"""Pages to look at: one run, two runs compared, all runs of a folder. Each is one HTML file that needs no network."""
