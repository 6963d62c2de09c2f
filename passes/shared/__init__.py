"""Questions that several passes ask of a graph."""
