"""The HyperZ·Z·W operator, recognised in any graph."""
