"""Differentiable operators that rewritten graphs call."""
