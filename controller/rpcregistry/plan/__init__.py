"""Deciding.  Functions from what is observed to what to do next: no I/O, clock, thread or log."""
