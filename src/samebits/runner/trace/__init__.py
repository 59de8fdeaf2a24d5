"""Ledger lines for steps, with their gradients and the outputs of layers."""
