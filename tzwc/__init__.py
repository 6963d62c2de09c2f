"""tzwc: a compiler-style graph library for models whose weights are written by other networks."""
