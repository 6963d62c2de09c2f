"""Whole models against eager mode and torch.compile."""
