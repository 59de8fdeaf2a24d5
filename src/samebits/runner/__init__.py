"""The half that runs beside the user's script: TensorFlow, the standard library, and nothing of the host's half."""
