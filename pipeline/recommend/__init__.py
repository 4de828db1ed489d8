"""Lists of items for users, from a finished run."""
