"""Running: what the process is made of.

A controller x is plan/x.py, reconcile/x.py, run/x.py, and a line in ``PARTS``.
"""

from collections.abc import Callable, Mapping

from rpcregistry.run.localservices import localservices_part
from rpcregistry.run.part import Part
from rpcregistry.run.registry import registry_part
from rpcregistry.run.rpcservices import rpcservices_part
from rpcregistry.run.shared import Shared

# In the order in which they start: the registry relies on what the pod controller began to look at, and
# neither waits for the sources of the last one.
PARTS: Mapping[str, Callable[[Shared], Part]] = {
    "rpcservice": rpcservices_part,
    "registry": registry_part,
    "localservice": localservices_part,
}
