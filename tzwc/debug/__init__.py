"""Which pass moves the numbers, and by how much."""
