"""Which Services LocalServices should have for nodes, by docs/local-services.md, and which they have."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from tests.faults.harness.oracle.objects import Manifest, name_of, namespace_of
from tests.faults.harness.oracle.services import World

Key = tuple[str, str, str]
"""Namespace, LocalService and node."""

NodeServices = Mapping[Key, Sequence[Manifest]]
"""What of each Service the LocalService and the node decide: its name, labels, selector and spec."""

_NODE = "rpcregistry.dev/node"
_NODE_NAME = "rpcregistry.dev/node-name"
_LOCAL_SERVICE = "rpcregistry.dev/localservice"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SHORTENED = re.compile(r"[a-z][-a-z0-9]{0,53}-[0-9a-f]{8}")


def wrong_node_services(world: World) -> Iterator[tuple[Key, Sequence[Manifest], Sequence[Manifest]]]:
    """Yield where a LocalService has other Services for a node than it should have, and both.

    Whose name somebody else's Service has, or another node's, may be missing; so may all in a namespace that
    ends.  Those of a node that was deleted stay for a while, as its pods do.
    """
    wanted, found = node_services(world), made(world)
    for key in sorted((wanted.keys() | found.keys()) - _undecided(world)):
        if wanted.get(key, ()) != found.get(key, ()):
            yield key, wanted.get(key, ()), found.get(key, ())


def node_services(world: World) -> NodeServices:
    """The Services that there should be: one for each node that matches."""
    return {
        (namespace_of(local), name_of(local), name_of(node)): [_wanted(world, local, name_of(node))]
        for local, node in _pairs(world)
    }


def made(world: World) -> NodeServices:
    """The Services that LocalServices control, in the same terms."""
    owners = {local["metadata"]["uid"]: local for local in world.localservices}
    found: dict[Key, list[Manifest]] = defaultdict(list)
    for service in world.services:
        meta = service["metadata"]
        owner = owners.get(_controller(service))
        if owner and not meta.get("deletionTimestamp"):
            node = (meta.get("annotations") or {}).get(_NODE_NAME, "")
            wanted = _wanted(world, owner, node)
            shortened = wanted["name"] is None and _SHORTENED.fullmatch(meta["name"])
            there = {
                "name": None if shortened else meta["name"],
                "labels": _as_far_as(meta.get("labels") or {}, wanted["labels"]),
                "selector": service["spec"].get("selector"),
                "spec": _as_far_as(service["spec"], wanted["spec"]),
            }
            found[namespace_of(owner), name_of(owner), node].append(there)
    return found


def _pairs(world: World) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield each LocalService with each node that it matches."""
    for local in world.localservices:
        watched = not world.namespace or namespace_of(local) in world.namespace
        if watched and not local["metadata"].get("deletionTimestamp"):
            chosen = (local["spec"].get("nodeSelector") or {}).items()
            for node in world.nodes:
                if chosen <= (node["metadata"].get("labels") or {}).items():
                    yield local, node


def _wanted(world: World, local: Manifest, node: str) -> Manifest:
    spec = local["spec"]
    own = {key: value for key, value in spec.items() if value and key not in ("selector", "nodeSelector")}
    return {
        "name": _service_name(local, node),
        "labels": {"owner": name_of(local), _LOCAL_SERVICE: name_of(local), _NODE: _label(node)},
        "selector": {**spec["selector"], world.node_label: _label(node)},
        "spec": own,
    }


def _service_name(local: Manifest, node: str) -> str | None:
    """``<name>-<node>``; None where no Service can be called so, and it has another name."""
    name = f"{name_of(local)}-{node}"
    return name if _NAME.fullmatch(name) else None


def _label(text: str) -> str:
    """A label's value: what is too long has its end replaced."""
    return text if len(text) <= 63 else f"{text[:54]}-{sha256(text.encode()).hexdigest()[:8]}"


def _undecided(world: World) -> set[Key]:
    """The Services that may be missing or stay: see ``wrong_node_services``."""
    ending = {name_of(space) for space in world.namespaces if space["metadata"].get("deletionTimestamp")}
    controllers = {
        (namespace_of(service), name_of(service)): _controller(service) for service in world.services
    }
    pairs = [(local, name_of(node)) for local, node in _pairs(world)]
    names = Counter((namespace_of(local), _service_name(local, node)) for local, node in pairs)
    found = {
        (namespace_of(local), name_of(local), node)
        for local in world.localservices
        for node in world.lost_nodes
    }
    for local, node in pairs:
        space, name = namespace_of(local), _service_name(local, node)
        uid = local["metadata"]["uid"]
        others = name is not None and (names[space, name] > 1 or controllers.get((space, name), uid) != uid)
        if others or space in ending:
            found.add((space, name_of(local), node))
    return found


def _controller(service: Manifest) -> str:
    """The uid of the object that controls it; empty where there is none."""
    owners = service["metadata"].get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def _as_far_as(found: Any, wanted: Any) -> Any:
    """The part of what is *found* that is *wanted* at all: the server fills in more."""
    match found, wanted:
        case dict(), dict():
            return {key: _as_far_as(found[key], value) for key, value in wanted.items() if key in found}
        case list(), list() if len(found) == len(wanted):
            return [_as_far_as(one, other) for one, other in zip(found, wanted, strict=True)]
    return found
