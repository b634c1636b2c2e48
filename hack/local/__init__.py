"""A real control plane and a real ZooKeeper on loopback: for the demo, the tests and the benchmark."""
