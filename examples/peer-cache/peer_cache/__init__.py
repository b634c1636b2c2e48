"""A cache in memory that every process of it holds in full: what one is given, all have."""
