"""The pass manager, rules and patterns."""
