"""Neighbouring versions take over from each other, in either order, and rename nothing."""
