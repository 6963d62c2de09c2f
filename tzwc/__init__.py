"""tzwc."""
