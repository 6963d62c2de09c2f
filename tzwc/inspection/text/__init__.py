"""Graphs as Python text."""
