"""The process around the script: console, signals, captured output, the launcher."""
