"""The benchmarks: what the controller takes, beside what a bare client takes for the least work there is.

``stage`` is the cluster and the controller, ``scenarios`` what is measured there, ``figures`` computes, and
``report`` shows.  To add a scenario, write its module and list it in ``scenarios.SCENARIOS``.
"""
