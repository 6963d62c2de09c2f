"""What was captured, what every pass did, and what is cached."""
