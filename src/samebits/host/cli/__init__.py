"""The command line: `parser` with `main`, and one module per command."""
