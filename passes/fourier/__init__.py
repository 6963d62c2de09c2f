"""Convolutions that a program writes with transforms of its own."""
