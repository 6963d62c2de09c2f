"""Properties of drawn programs: whatever is written, a compiled module is the module, but for roundings."""
