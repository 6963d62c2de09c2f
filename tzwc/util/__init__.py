"""What any part may use, and what knows of none."""
