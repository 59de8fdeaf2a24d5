"""What is observed of a training and of the machine it runs on."""
