"""Signed statements about runs. The host signs; nothing in a container ever sees a key."""
