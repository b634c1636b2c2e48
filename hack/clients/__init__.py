"""Real RPC clients, unmodified, from where their users get them: what they read in ZooKeeper is what counts.

Each is a *watcher*: a small program around the client's own library that follows one service and prints a
JSON line for every list of endpoints which the library shows.  Where the library also registers
providers, it does that as well: what it writes is kept in ``tests/golden``.
"""
