"""What a script can change in its process or in libraries: it is captured, or must not change."""
