"""What operators see of a running process: metrics, probes, logs, and Events.

None of it can stop the control loop: a scrape reads what is there, logging failures are swallowed, and
Events are posted by a thread of their own from a bounded queue.
"""
