"""Graphs as JSON, DOT, SVG and networkx."""
