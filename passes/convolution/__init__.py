"""The fastest algorithm for each convolution of a graph."""
