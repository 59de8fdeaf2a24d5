"""Observation: what is recorded of a training and of the machine it runs on."""
