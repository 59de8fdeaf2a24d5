"""`samebits fetch`: find out what a script takes from the network, pin it, and share it."""
