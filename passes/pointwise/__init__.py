"""1×1 convolutions: composed, merged, as matrix products."""
