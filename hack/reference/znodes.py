"""The znodes of each layout, byte by byte: what the controller's own plan creates for two pods."""

from collections.abc import Iterator

import yaml

from hack.reference.markdown import MADE, TOP, fenced
from rpcregistry.layouts import LAYOUTS, Layout
from rpcregistry.layouts.templatefile import load
from rpcregistry.plan import znodes
from rpcregistry.plan.offline import objects_of, reconciled
from rpcregistry.plan.ops import Create
from rpcregistry.plan.outcome import ObservedZnodes
from rpcregistry.plan.publication import PublicationSettings, publication

CLUSTER = "00000000-0000-4000-8000-000000000000"
SERVICE = "com.example.Echo"
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  uid: {name}-uid
  labels: {{rpc-service: "true"}}
  annotations:
    rpc-service: '[{entry}]'
spec: {{nodeName: node-1}}
status:
  phase: Running
  podIP: {ip}
  podIPs: [{{ip: {ip}}}]
  conditions: [{{type: Ready, status: "True"}}]
  containerStatuses: [{{name: app, state: {{running: {{startedAt: "2026-01-01T00:00:00Z"}}}}}}]
"""
PLAIN = '{"serviceName": "com.example.Echo", "port": 20880}'
RICH = (
    '{"serviceName": "com.example.Echo", "port": 20880, "version": "1.0.0", "group": "eu", "weight": 200, '
    '"metadata": {"timeout": "3000", "zone": "a"}}'
)
PODS = [
    POD.format(name="echo-1", ip="192.0.2.1", entry=PLAIN),
    POD.format(name="echo-2", ip="192.0.2.2", entry=RICH),
]
BASES = {"kube2zk": "/rpc_v2", "spring-cloud": "/services", "dubbo": "/dubbo", "sofa": "/sofa-rpc"}
TEMPLATES = TOP / "examples" / "layouts"
TEXT = f"""\
# Znodes, byte by byte

{MADE}
Two pods serve one service in cluster `{CLUSTER}`. The first declares no more than a port;
the second declares all that there is:

```text
echo-1  192.0.2.1  {PLAIN}
echo-2  192.0.2.2  {RICH}
```

Below are the znodes that the controller creates for them, in its order, and the bytes of each. Directories
are empty. `/rpcregistry/owned` is the [ledger](own-znodes.md). `\\x` and two digits stand for a byte that is
no text.
"""


def page() -> str:
    """The page."""
    layouts = [Layout(name, BASES.get(name, f"/{name}")) for name in LAYOUTS]
    layouts += [
        Layout(file.stem, f"/{file.stem}", template=load(file.read_text()))
        for file in sorted(TEMPLATES.glob("*.yaml"))
    ]
    return TEXT + "".join(f"\n## {_title(layout)}\n\n{fenced(lines(layout))}" for layout in layouts)


def _title(layout: Layout) -> str:
    return f"{layout.name}, a template" if layout.template else layout.name


def lines(layout: Layout) -> Iterator[str]:
    """The path of each znode that is created, and its bytes."""
    found = objects_of([yaml.safe_load(pod) for pod in PODS])
    settings = PublicationSettings(cluster_id=CLUSTER)
    wanted = publication(reconciled(found.pods, (), [layout]), False, settings)
    observed = ObservedZnodes(None, None, missing=layout.parents(SERVICE))
    outcome = znodes.plan(layout, SERVICE, wanted, observed, settings, "")
    assert not outcome.refusal, outcome.refusal
    for op in outcome.ops:
        assert isinstance(op, Create)
        yield op.path
        if op.data:
            yield "  " + _shown(op.data)


def _shown(data: bytes) -> str:
    text = data.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
