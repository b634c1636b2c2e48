"""The nouns.  Values only: frozen, compared by content, never changed after they were made."""

from collections.abc import Mapping

import msgspec

MANAGED_BY = ("app.kubernetes.io/managed-by", "rpcregistry")
PART_OF = "rpcregistry.dev/part-of"
RELEASE = "rpcregistry.dev/release"
HELD = "rpcregistry.dev/held"
RELEASED_BY = "rpcregistry.dev/released-by"
LOCAL_SERVICE = "rpcregistry.dev/localservice"
NODE = "rpcregistry.dev/node"
NODE_NAME = "rpcregistry.dev/node-name"
SERVICE_NAME = "rpcregistry.dev/service-name"
LOCAL_LABELS = "local-service.rpcregistry.dev/"  # and a LocalService's name: on the pods that ask for it


def _api_name(field: str) -> str:
    """The Kubernetes API's spelling of a field: ``pod_uid`` is ``podUID``."""
    first, *rest = field.split("_")
    return first + "".join(part.upper() if part in {"uid", "ip"} else part.capitalize() for part in rest)


# What stays in memory by the ten thousand refers to nothing that refers back: the garbage collector need not
# visit it (gc=False), which also saves 16 bytes each.


class ObjectKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """Which object of a kind; a cluster-scoped one has the namespace ``""``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServiceKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """All RpcServices of one service name in one namespace: what the pod controller reconciles as one."""

    namespace: str
    service_name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service_name}"


class NodeServiceKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """The Service of one LocalService for one cluster node."""

    namespace: str
    local_service: str
    node: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.local_service} on {self.node}"

    @property
    def owner(self) -> ObjectKey:
        """The LocalService."""
        return ObjectKey(self.namespace, self.local_service)


class Problem(msgspec.Struct, frozen=True, order=True):
    """What a user got wrong: *reason* is CamelCase and stable, *message* says what and where."""

    reason: str
    message: str


class Regarding(msgspec.Struct, frozen=True):
    """Which object an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class Declaration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One service that a pod says it serves."""

    service_name: str
    version: str = ""
    port: int | None = None
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = {}
    local: bool = False


class Pod(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A pod, reduced to what decides whether and how it is published.

    *ips* holds the usable addresses of its status, the primary first; *started_at* is RFC 3339 or
    ``""``; *silenced*: it is not Ready, and nobody says why, which is how the node lifecycle controller
    marks the pods of a Node that it does not hear from; *declarations* and *problems* are what its
    annotations say (``dialects.read``).
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = {}
    node_name: str = ""
    host_ip: str = ""
    ips: tuple[str, ...] = ()
    phase: str = ""
    ready: bool = False
    silenced: bool = False
    terminating: bool = False
    started_at: str = ""
    service_account: str = ""
    declarations: tuple[Declaration, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


class Node(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A cluster node."""

    name: str
    uid: str
    ready: bool
    labels: Mapping[str, str] = {}

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("", self.name)


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename=_api_name):
    """One pod's address for one service: a row of ``status.endpoints``.

    *held*: the pod is absent, and the row is kept until that is confirmed (or released).
    """

    pod_name: str
    pod_uid: str
    ip: str
    ips: tuple[str, ...] = ()
    port: int | None = None
    node_name: str = ""
    host_ip: str = ""
    version: str = ""
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    ready: bool
    phase: str = ""
    started_at: str = ""
    metadata: Mapping[str, str] = {}
    held: bool = False


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One of a label selector's matchExpressions."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(msgspec.Struct, frozen=True, kw_only=True, rename=_api_name):
    """A Kubernetes label selector."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with *labels* is selected.  An empty selector selects nothing here.

        In a Service or a Deployment it would select nothing or be refused, too; a slip of the
        keyboard must not publish every pod of a namespace.
        """
        if not self.match_labels and not self.match_expressions:
            return False
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            _satisfies(requirement, labels) for requirement in self.match_expressions
        )


def _satisfies(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


class RpcServiceSpec(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename=_api_name
):
    """What a person (or, for a generated one, the pod controller) asks for."""

    service_name: str = ""
    selector: LabelSelector | None = None
    port: int | None = None
    version: str = ""
    group: str = ""
    protocol: str = ""
    weight: int | None = None
    metadata: Mapping[str, str] = {}
    publish_not_ready_addresses: bool = False
    protect_threshold: int = 0
    config: tuple[str, ...] | None = None


class Condition(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename=_api_name):
    """A condition as the Kubernetes API conventions have it; times are RFC 3339."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class RpcServiceStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename=_api_name):
    """What the pod controller found; the registry controller's only input."""

    observed_generation: int | None = None
    service_name: str = ""
    ready: str = ""
    ready_endpoints: int = 0
    total_endpoints: int = 0
    registry_paths: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class RpcService(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An RpcService object.

    *generated*: we made it and no person owns a field of its spec.  *part_of*: the label that names
    the RpcService whose endpoints it carries on, or ``""``, and *owner_uid* that one's uid.
    *released*: the release annotation, or ``""``.  *damaged*: why something in its status cannot be read, and
    *unreadable*: why its spec cannot, of which then only the service name counts; or ``""``.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int = 1
    created: str = ""
    deleting: bool = False
    generated: bool = False
    part_of: str = ""
    owner_uid: str = ""
    released: str = ""
    spec: RpcServiceSpec = RpcServiceSpec()
    status: RpcServiceStatus = RpcServiceStatus()
    damaged: str = ""
    unreadable: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    @property
    def service_name(self) -> str:
        """What RPC clients look up."""
        return self.spec.service_name or self.name

    @property
    def service_key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.service_name)

    @property
    def age(self) -> tuple[str, str]:
        """Sorts the oldest first, and equally old ones always in the same order."""
        return (self.created, self.uid)

    @property
    def is_part(self) -> bool:
        """Whether it only carries on the endpoints of another RpcService."""
        return self.generated and bool(self.part_of)

    @property
    def known(self) -> bool:
        """Whether its status has ever been written: a new object is first seen empty."""
        return self.status.observed_generation is not None


class ServicePort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """One port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None


class ClientIPAffinity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """For how long a client counts as the same one, in seconds."""

    timeout_seconds: int | None = None


class AffinityConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """The configuration of a session affinity."""

    client_ip: ClientIPAffinity | None = None


class LocalServiceSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """What each node Service should be, and which nodes get one (all, where *node_selector* is empty)."""

    type: str = "ClusterIP"
    cluster_ip: str = ""
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = {}
    node_selector: Mapping[str, str] = {}
    session_affinity: str = "None"
    session_affinity_config: AffinityConfig | None = None
    publish_not_ready_addresses: bool = False
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""
    internal_traffic_policy: str = ""
    external_traffic_policy: str = ""

    @property
    def pods(self) -> LabelSelector:
        """Which pods the Services lead to."""
        return LabelSelector(match_labels=self.selector)


class NodeServiceRow(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename=_api_name
):
    """A row of a LocalService's status: a node's Service, and the addresses of its Ready endpoints."""

    node: str
    service: str
    cluster_ip: str = ""
    endpoints: tuple[str, ...] = ()


class LocalServiceStatus(msgspec.Struct, frozen=True, kw_only=True, rename=_api_name):
    """What was found.  *nodes*: those that match; *ready_nodes*: those with a Ready endpoint."""

    observed_generation: int | None = None
    nodes: int = 0
    ready_nodes: int = 0
    services: tuple[NodeServiceRow, ...] = ()
    truncated: bool = False
    conditions: tuple[Condition, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class LocalService(msgspec.Struct, frozen=True, kw_only=True):
    """A LocalService object; *generated* and *released* as an RpcService's.

    *service_name*: of a generated one, the service that its pods declare.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int = 1
    deleting: bool = False
    generated: bool = False
    service_name: str = ""
    released: str = ""
    spec: LocalServiceSpec = LocalServiceSpec()
    status: LocalServiceStatus = LocalServiceStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    def matches(self, node: Node | None) -> bool:
        """Whether *node* is there and gets a Service."""
        return node is not None and self.spec.node_selector.items() <= node.labels.items()


class Owner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """An entry of ``metadata.ownerReferences``."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class KubeService(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A Service of Kubernetes; of one that we never made, nothing but which one it is.

    *labels* and *spec* as the server has them, *spec* as JSON; *node_name*: for which node we made it.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    deleting: bool = False
    labels: Mapping[str, str] = {}
    node_name: str = ""
    owners: tuple[Owner, ...] = ()
    spec: bytes = b"{}"

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    @property
    def controller(self) -> Owner | None:
        """The object that manages it."""
        return next((owner for owner in self.owners if owner.controller), None)


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A Lease's record, as others wrote it; *acquired* and *renewed* are for people to read.

    *resource_version* is ``""`` where it has yet to be created; *released_by*: who gave it up last.
    """

    holder: str = ""
    released_by: str = ""
    seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    resource_version: str = ""

    @property
    def released(self) -> bool:
        """Whether its holder gave it up; a person who only clears the holder does not say that."""
        return not self.holder and self.seconds == 1
