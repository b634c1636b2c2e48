"""The nouns.  Values only: frozen, and compared by content."""

from collections.abc import Mapping

import msgspec

MANAGED_BY = ("app.kubernetes.io/managed-by", "rpcregistry")
PART_OF = "rpcregistry.dev/part-of"
RELEASE = "rpcregistry.dev/release"
HELD = "rpcregistry.dev/held"
RESTORED = "rpcregistry.dev/restored"
RELEASED_BY = "rpcregistry.dev/released-by"
LOCAL_SERVICE = "rpcregistry.dev/localservice"
NODE = "rpcregistry.dev/node"
NODE_NAME = "rpcregistry.dev/node-name"
SPEC_KEYS = "rpcregistry.dev/spec-keys"
GENERATED_LABELS = "rpcregistry.dev/generated-labels"
SERVICE_NAME = "rpcregistry.dev/service-name"
LOCAL_LABELS = "local-service.rpcregistry.dev/"  # and a LocalService's name: on the pods that ask for it
UNREPORTED = "Unknown"  # the phase of a pod that nobody can report; Kubernetes' own word, out of use there


def _api_name(field: str) -> str:
    """The Kubernetes API's spelling of a field: ``pod_uid`` is ``podUID``."""
    first, *rest = field.split("_")
    return first + "".join(part.upper() if part in {"uid", "ip"} else part.capitalize() for part in rest)


# Values that we keep by the ten thousand form no reference cycles.  So the garbage collector need not visit
# them (gc=False), which also saves 16 bytes each.


class ObjectKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """Which object of a kind; a cluster-scoped one has the namespace ``""``."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServiceKey(msgspec.Struct, frozen=True, gc=False, order=True):
    """One service name in one namespace: the pod controller reconciles all its RpcServices together."""

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
    """A user's mistake: *reason* is CamelCase and stable, *message* says what is wrong and where."""

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
    """One service that a pod declares."""

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

    *ips*: the usable addresses of its status, the primary first.  *refused_ips*: the others, to which clients
    are never sent.  *started_at*: RFC 3339 or ``""``.
    *silenced*: it is not Ready, but not by its kubelet's word; the node lifecycle controller marks the pods
    of a silent Node so.  *declarations* and *problems*: the contents of its annotations (``dialects.read``).
    *hints*: what looks like a typing error in them (``dialects.hints``).
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = {}
    node_name: str = ""
    host_ip: str = ""
    ips: tuple[str, ...] = ()
    refused_ips: tuple[str, ...] = ()
    phase: str = ""
    ready: bool = False
    silenced: bool = False
    terminating: bool = False
    started_at: str = ""
    service_account: str = ""
    declarations: tuple[Declaration, ...] = ()
    problems: tuple[Problem, ...] = ()
    hints: tuple[Problem, ...] = ()

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

    *held*: the pod is absent, and the row stays until its absence is confirmed or a person releases it.
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

    @property
    def address(self) -> str:
        """As people read it: ``IP:PORT``, or the IP alone if no port was declared."""
        return self.ip if self.port is None else f"{self.ip}:{self.port}"


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
        """Whether the selector selects an object with *labels*.  An empty selector selects nothing here.

        So it does in a Service, and a Deployment refuses it: a typing error must not publish every pod of a
        namespace.
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
    """What a person asks for, or the pod controller, if it generated the object."""

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
    """The pod controller's result, and the registry controller's only input.

    *origin*: ``generated`` or ``declared``, for people; nothing is decided by it.
    """

    observed_generation: int | None = None
    service_name: str = ""
    origin: str = ""
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

    *generated*: we made it, and no person owns a field of its spec.  *part_of*: the name of its head, if it
    is a part, else ``""``.  *owner_uid*: that head's uid.  *released*: the release annotation, or ``""``.
    *damaged*: why a part of its status cannot be decoded, or ``""``.  *unreadable*: why its spec cannot; then
    only the service name in it counts.  *labels*: those of a generated object besides our own; *label_keys*:
    which of them we put on it.
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
    labels: Mapping[str, str] = {}
    label_keys: tuple[str, ...] = ()
    spec: RpcServiceSpec = RpcServiceSpec()
    status: RpcServiceStatus = RpcServiceStatus()
    damaged: str = ""
    unreadable: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    @property
    def service_name(self) -> str:
        """The name that RPC clients look up."""
        return self.spec.service_name or self.name

    @property
    def service_key(self) -> ServiceKey:
        return ServiceKey(self.namespace, self.service_name)

    @property
    def age(self) -> tuple[str, str]:
        """A sort key: the oldest first, and a stable order of equally old ones."""
        return (self.created, self.uid)

    @property
    def is_part(self) -> bool:
        """Whether it only lists further endpoints of another RpcService, its head."""
        return self.generated and bool(self.part_of)

    @property
    def known(self) -> bool:
        """Whether the pod controller has written its status: a new object has none."""
        return self.status.observed_generation is not None


class ServicePort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """One port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None


class ClientIPAffinity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """How long a client keeps its endpoint, in seconds."""

    timeout_seconds: int | None = None


class AffinityConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """The configuration of a session affinity."""

    client_ip: ClientIPAffinity | None = None


class LocalServiceSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_api_name):
    """The spec of each node Service, and which nodes get one (all, if *node_selector* is empty).

    *service_labels* and *service_annotations*: those of each Service, besides ours.
    """

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
    service_labels: Mapping[str, str] = {}
    service_annotations: Mapping[str, str] = {}

    @property
    def pods(self) -> LabelSelector:
        """The selector of the Services' pods."""
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
    """*nodes*: how many match; *ready_nodes*: how many have a Ready endpoint."""

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
    """A LocalService object; *generated*, *released*, *labels* and *label_keys* are as in ``RpcService``.

    *service_name*: the service that its pods declare, if it is generated.
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
    labels: Mapping[str, str] = {}
    label_keys: tuple[str, ...] = ()
    spec: LocalServiceSpec = LocalServiceSpec()
    status: LocalServiceStatus = LocalServiceStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    def matches(self, node: Node | None) -> bool:
        """Whether *node* exists and gets a Service."""
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
    """A Service of Kubernetes; another's Service is reduced to its metadata.

    *labels*, *annotations* and *spec*: as the server has them, *spec* as JSON.  *node_name*: the node for
    which we made it, which is an annotation, too.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    deleting: bool = False
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
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
    """A Lease's record; *acquired* and *renewed* are for people to read.

    *resource_version*: ``""`` if it has yet to be created.  *released_by*: the process that released it last.
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
        """Whether its holder released it; a person who only clears the holder does not release it."""
        return not self.holder and self.seconds == 1
