"""A model that initialises itself lazily, against torch.compile."""
