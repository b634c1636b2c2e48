"""Doing.  A reconciler reads what is observed, has the plan of the same name decide, and applies it."""
