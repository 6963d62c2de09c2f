"""Which algorithm is the fastest for a convolution: predicted, measured and remembered."""
