"""Few canonical forms for many spellings."""
