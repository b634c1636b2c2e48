"""ZooKeeper: the only room that imports kazoo."""
