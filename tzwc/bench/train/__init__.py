"""Steps of training against eager mode and torch.compile."""
