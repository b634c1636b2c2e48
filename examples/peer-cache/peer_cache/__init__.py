"""A cache in memory that each of its processes holds in full: a value set in one reaches all."""
