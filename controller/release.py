"""``rpcregistry release``: withdraw now what is held."""

import sys
from datetime import UTC, datetime

from controller.kube import Kube
from controller.manifests import RPCSERVICES
from controller.model import RELEASE, RpcService


def release_held(kubeconfig: str | None, namespaces: tuple[str, ...], names: tuple[str, ...]) -> int:
    """Annotate the RpcServices that are held (or whose service is named); return the exit code."""
    kube = Kube.from_config(kubeconfig)
    services = [
        service for namespace in namespaces or ("",) for service in kube.list(RPCSERVICES, namespace).items
    ]
    chosen = [service for service in services if _is_chosen(service, names)]
    unknown = set(names) - {name for service in services for name in (service.name, service.service_name)}
    for name in sorted(unknown):
        sys.stderr.write(f"rpcregistry: there is no RpcService {name!r}\n")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for service in chosen:
        kube.patch(RPCSERVICES, service.key, {"metadata": {"annotations": {RELEASE: now}}})
        sys.stdout.write(f"rpcservice {service.key} released\n")
    if not chosen:
        sys.stdout.write("nothing is held\n")
    return 1 if unknown else 0


def _is_chosen(service: RpcService, names: tuple[str, ...]) -> bool:
    if names:
        return service.name in names or service.service_name in names
    condition = service.status.condition("Synced")
    held = any(row.held for row in service.status.endpoints)
    return held or (condition is not None and condition.reason == "Held")
