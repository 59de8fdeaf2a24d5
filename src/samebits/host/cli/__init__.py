"""The command line: the parser, and a function per command."""
