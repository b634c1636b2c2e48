"""The RpcServices of a service name: of one namespace, or of all."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from rpcregistry.model import RpcService, ServiceKey
from rpcregistry.reconcile.ports import Source

BY_NAME = "service name"  # index of RpcServices


def service_indexes() -> Mapping[str, Callable[[RpcService], Iterable[str]]]:
    """The indexes that the RpcService store needs."""
    return {BY_NAME: lambda service: [service.service_name]}


def services_of(services: Source[RpcService], name: str) -> Sequence[RpcService]:
    """The RpcServices of a name."""
    return services.store.indexed(BY_NAME, name)


def namespaces_of(services: Source[RpcService], name: str) -> set[str]:
    """The namespaces that have an RpcService of a name."""
    return {service.namespace for service in services_of(services, name)}


def listing(services: Source[RpcService], key: ServiceKey) -> list[RpcService]:
    """The RpcServices of a key."""
    return [found for found in services_of(services, key.service_name) if found.namespace == key.namespace]
