"""``rpcregistry release``: withdraw now what is held."""

import sys
from datetime import UTC, datetime
from typing import Any

from controller.kube import Kube
from controller.manifests import LOCALSERVICES, RPCSERVICES, Resource
from controller.model import RELEASE, LocalService, RpcService

HELD: tuple[Resource[Any], ...] = (RPCSERVICES, LOCALSERVICES)


def release_held(
    kubeconfig: str | None, context: str | None, namespaces: tuple[str, ...], names: tuple[str, ...]
) -> int:
    """Annotate what is held (or what is named, by object or by service); return the exit code."""
    kube = Kube.from_config(kubeconfig, context)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    known: set[str] = set()
    released = 0
    for resource in HELD:
        listings = [kube.list(resource, namespace) for namespace in namespaces or ("",)]
        for found in [found for listing in listings for found in listing.items]:
            known |= {found.name, found.service_name}
            if _is_chosen(found, names):
                kube.patch(resource, found.key, {"metadata": {"annotations": {RELEASE: now}}})
                sys.stdout.write(f"{resource.kind.lower()} {found.key} released\n")
                released += 1
    unknown = set(names) - known
    for name in sorted(unknown):
        sys.stderr.write(f"rpcregistry: there is no RpcService or LocalService {name!r}\n")
    if not released:
        sys.stdout.write("nothing is held\n")
    return 1 if unknown else 0


def _is_chosen(found: RpcService | LocalService, names: tuple[str, ...]) -> bool:
    if names:
        return found.name in names or found.service_name in names
    condition = found.status.condition("Synced")
    held = isinstance(found, RpcService) and any(row.held for row in found.status.endpoints)
    return held or (condition is not None and condition.reason == "Held")
