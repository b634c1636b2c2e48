"""How a service is written in ZooKeeper, one file a layout.

A layout is a pure function from what a service publishes to the bytes of its znodes.  To add one,
write the file and list it in ``LAYOUTS``.
"""

from controller.layouts import kube2zk

LAYOUTS = {"kube2zk": kube2zk}
