"""What every fault test stands on: the public command under faults, and a judge that was told nothing.

``kubelet`` keeps replicas of the command running; ``cluster`` is what breaks: servers, their data, and what
stands in between; ``history`` and the servers' own logs witness it.  A ``stand`` is one test's part of that;
as it ends, all that was witnessed becomes an ``Evidence``, and ``invariants.check`` judges it.  ``churn`` and
``edits`` are what else happens meanwhile, by a seed.  ``python -m tests.faults.harness --help`` runs it on
any checkout.
"""
