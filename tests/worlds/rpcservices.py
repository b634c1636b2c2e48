"""The RpcServices of one namespace, as plans change them."""

import msgspec
from hypothesis import strategies as st

from rpcregistry.layouts import Layout
from rpcregistry.model import (
    Declaration,
    Pod,
    RpcService,
    RpcServiceSpec,
    ServiceKey,
)
from rpcregistry.plan.invariants import check_objects
from rpcregistry.plan.rows import Absences, ObservedRpcServices
from rpcregistry.plan.rpcservices import Create, Delete, Op, ProjectionSettings, SetStatus, plan
from tests.builders import NOW, pod, rpcservice

KEY = ServiceKey("default", "echo")
SETTINGS = ProjectionSettings(endpoints_per_object=3, layouts=(Layout("kube2zk", "/rpc_v2"),))


def service(name: str, **fields: object) -> RpcService:
    """An RpcService of the service echo, which has no status yet."""
    return rpcservice(name, serves="echo", known=False, **fields)


def planned(key: ServiceKey, observed: ObservedRpcServices, absences: Absences) -> list[Op]:
    """A plan that breaks no invariant."""
    ops = plan(key, observed, absences, SETTINGS, NOW)
    check_objects(key, ops)
    return ops


class World:
    """The RpcServices and pods of one namespace, as the plan's operations change them."""

    def __init__(self, pods: list[Pod], services: list[RpcService] | None = None) -> None:
        self.pods = {pod.name: pod for pod in pods}
        self.services = {service.name: service for service in services or ()}
        self.absences = Absences()
        self.silent_nodes: set[str] = set()

    def observe(self) -> ObservedRpcServices:
        mine = [service for service in self.services.values() if service.service_name == "echo"]
        return ObservedRpcServices(mine, self.pods, self.services, self.silent_nodes)

    def plan(self) -> list[Op]:
        return planned(KEY, self.observe(), self.absences)

    def apply(self, op: Op) -> None:
        match op:
            case Create(_, name, service_name, status, head):
                assert name not in self.services
                self.services[name] = service(
                    name,
                    created=str(len(self.services) + 2),
                    part_of=head.name if head else "",
                    owner_uid=head.uid if head else "",
                    spec=RpcServiceSpec(service_name=service_name),
                    status=msgspec.structs.replace(status, observed_generation=1),
                )
            case SetStatus(observed, status):
                self.services[observed.name] = msgspec.structs.replace(
                    self.services[observed.name], status=status
                )
            case Delete(observed):
                assert not self.services[observed.name].status.endpoints, "deleted with endpoints in it"
                del self.services[observed.name]

    def settle(self) -> "World":
        for _ in range(10):
            ops = self.plan()
            if not ops:
                return self
            for op in ops:
                self.apply(op)
        raise AssertionError(f"never settles: {self.plan()}")

    def listed(self) -> dict[str, list[str]]:
        return {
            name: [row.pod_name for row in service.status.endpoints]
            for name, service in sorted(self.services.items())
        }


def verbose(name: str, characters: int) -> Pod:
    """A pod that declares that much metadata."""
    return pod(name, declarations=(Declaration(service_name="echo", metadata={"about": "x" * characters}),))


pods_strategy = st.lists(
    st.builds(
        pod,
        st.sampled_from([f"p{n}" for n in range(8)]),
        st.sampled_from(["echo", "other"]),
        ready=st.booleans(),
        terminating=st.booleans(),
        phase=st.sampled_from(["Pending", "Running", "Failed"]),
        ips=st.sampled_from([(), ("10.0.0.1",), ("10.0.0.2", "fd00::2")]),
    ),
    unique_by=lambda pod: pod.name,
)
