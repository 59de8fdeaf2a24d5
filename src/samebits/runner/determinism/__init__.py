"""The determinism settings, applied and read back; what is proven to repeat, and what is not."""
