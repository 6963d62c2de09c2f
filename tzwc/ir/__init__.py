"""The graph, and what is known of it: sizes, schemas, costs, remarks."""
