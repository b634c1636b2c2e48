"""What ZooKeeper should hold, by the README's rules and from the Kubernetes objects alone.

A second opinion: it shares no code with the controller, so that no mistake is made twice.  It knows
one moment and no history: what the objects of one LIST come to once every change has arrived.  What
depends on the past (holds, limits on what is withdrawn, refused writes) is in ``undecided`` where
the objects show it, and else for its caller to allow.  ``tests/test_oracle.py`` compares it with the
controller on random worlds.

Not in here: ports by name, ``--policy``, ``--max-znode-bytes``, layouts made by ``--template``.
"""

import binascii
import json
import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus, urlsplit

Manifest = Mapping[str, Any]
"""An object as the API server answers it."""

Found = Mapping[tuple[str, str], Mapping[str, frozenset[str]]]
"""By layout and base path: service to addresses.

An address is ``10.0.0.1:80``, ``[fd00::1]:80``, or without a port ``10.0.0.1`` or ``fd00::1``, as all are in
the layout kube2zk.  A service without addresses is left out.
"""

Statuses = Mapping[tuple[str, str, str], frozenset["Row"]]
"""By namespace, service name and declared RpcService (``""``: the generated one, with all its parts).

A declared RpcService without endpoints is there; a generated one is not.
"""


@dataclass(frozen=True)
class World:
    """The objects of a cluster, and the flags of ``rpcregistry run`` that decide what is published.

    *register*: what ``--require-register-permission`` finds allowed, as (namespace, ServiceAccount,
    RpcService); None without the flag.
    """

    pods: Sequence[Manifest] = ()
    nodes: Sequence[Manifest] = ()
    rpcservices: Sequence[Manifest] = ()
    namespaces: Sequence[Manifest] = ()
    layouts: Sequence[tuple[str, str]] = (("kube2zk", "/rpc_v2"),)
    namespace: Sequence[str] = ()
    pod_label_selector: str = ""
    cross_namespace: str = "union"
    register: Collection[tuple[str, str, str]] | None = None


@dataclass(frozen=True)
class Row:
    """What says which endpoint a row of ``status.endpoints`` is, and whether it counts as Ready."""

    pod: str
    uid: str
    ip: str
    port: int | None
    ready: bool


def desired(world: World) -> Found:
    """What each layout should hold."""
    raise NotImplementedError


def undecided(world: World) -> Found:
    """What each layout may hold or lack, because the objects of one moment do not decide it.

    That is: pods that are not Ready on a Node that is not Ready (they are held for a while where they
    were published), and pods of namespaces that end (no RpcService can be made there any more).  What is
    found is right if it is *desired*, give or take what is undecided.
    """
    raise NotImplementedError


def statuses(world: World) -> Statuses:
    """Which endpoints each RpcService's status should list, Ready or not."""
    raise NotImplementedError


def listed(rpcservices: Iterable[Manifest]) -> Statuses:
    """Which endpoints the statuses of *rpcservices* do list: to compare with ``statuses``."""
    raise NotImplementedError


def read(layout: str, base: str, znodes: Mapping[str, bytes]) -> Mapping[str, frozenset[str]]:
    """What a client of *layout* finds below *base*: service to addresses, as in ``Found``.

    What the client could not read is there as ``"unreadable NAME"``, since no address looks like that;
    what it passes over (a provider that is switched off, say) is not.
    """
    raise NotImplementedError


def owned(layout: str, base: str, path: str) -> str | None:
    """The service whose entry at *path* can be the controller's, by its shape; None where it cannot be.

    Directories, which clients make as well, are nobody's.
    """
    raise NotImplementedError
