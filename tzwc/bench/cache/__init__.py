"""What checking cached values costs, and what they save."""
