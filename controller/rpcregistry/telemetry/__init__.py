"""What operators see of a running process: metrics, probes, logs, and Events.

None of it can stop the control loop.  A scrape only reads, logging swallows its failures, and a thread of its
own posts Events from a bounded queue.
"""
