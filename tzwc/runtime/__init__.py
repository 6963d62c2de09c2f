"""A call of a compiled module: guards, dispatch, execution."""
