"""The benchmarks: what the controller takes, beside a bare client that does the least work possible.

``stage`` runs the cluster and the controller, ``scenarios`` measure there, ``figures`` computes, and
``report`` prints.  To add a scenario, write its module and list it in ``scenarios.SCENARIOS``.
"""
