"""Real, unmodified RPC clients: what they read in ZooKeeper is what counts.

Each is a *watcher*: a small program around the client's own library that follows one service and prints a
JSON line for every list of endpoints which the library shows.  If the library also registers providers, the
watcher can, too: ``tests/golden`` has what it writes.  If it chooses endpoints, the watcher can call
them, and prints each call; if it has providers of its own, the watcher can be one.
"""
