"""How far the chosen convolution algorithm is from the best."""
