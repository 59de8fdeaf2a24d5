"""Runs on a cluster: submit one, follow it, cancel it, and what a node does with it."""
