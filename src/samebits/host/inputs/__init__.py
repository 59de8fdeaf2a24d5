"""Files from the network: the store that holds them, and how they get there."""
