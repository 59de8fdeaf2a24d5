"""Where and how a training is started."""
