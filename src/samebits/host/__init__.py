"""The half on the user's machine: command line, image, engine, virtual environment; never TensorFlow."""
