"""A published method a file."""
