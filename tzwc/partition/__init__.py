"""Which values depend on parameters alone, which of these to keep, and the cache that keeps them."""
