"""Ledger lines finer than an epoch: steps, gradients, layers' outputs."""
