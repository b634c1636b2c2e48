"""What was witnessed of one test: all that ``invariants.check`` judges by.

The machinery fills an ``Evidence`` once the test has ended and what it broke is mended; ``zklog`` and
``audit`` read ZooKeeper's and the API server's own records.  All times are seconds since the epoch, by this
machine's clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


# ZooKeeper's transaction log


@dataclass(frozen=True)
class Create:
    """A znode was made; *owner*: the session that it ends with, 0 for one that stays."""

    path: str
    data: bytes
    owner: int = 0


@dataclass(frozen=True)
class Delete:
    """A znode was deleted."""

    path: str


@dataclass(frozen=True)
class SetData:
    """A znode's data was replaced; *version* is the one that it has since."""

    path: str
    data: bytes
    version: int


@dataclass(frozen=True)
class SetAcl:
    """A znode's ACL was replaced."""

    path: str


@dataclass(frozen=True)
class Check:
    """A multi looked at a znode, and went on as it had this *version*.

    The log does not tell whether that one was asked for, or any.
    """

    path: str
    version: int


@dataclass(frozen=True)
class OpenSession:
    """A session began."""

    timeout: float


@dataclass(frozen=True)
class CloseSession:
    """A session ended, and its ephemeral znodes with it; *paths*, where the server's version lists them."""

    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A write that the server refused, or a multi of which one was."""

    code: int


Op = Create | Delete | SetData | SetAcl | Check | OpenSession | CloseSession | Failed


@dataclass(frozen=True)
class Transaction:
    """One entry of the log: all of *ops* or nothing."""

    zxid: int
    at: float
    session: int
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Log:
    """One life of ZooKeeper's data: what it held at *start*, and all that changed it since, in order.

    Data that is wiped, or put back as it was before, begins another life.
    """

    start: Mapping[str, bytes]
    transactions: Sequence[Transaction]


# the API server's audit log


@dataclass(frozen=True)
class Request:
    """One request as the API server answered it; *at*: when it came in.

    *sent* and *answered*: the bodies, where the policy has them recorded (writes of our kinds and of Leases).
    *resource* has the group and the subresource: ``pods``, ``rpcservices.rpcregistry.dev/status``.
    """

    at: float
    user: str
    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    sent: Json = field(default_factory=dict)
    answered: Json = field(default_factory=dict)


# what the harness saw with its own eyes


@dataclass(frozen=True)
class Change:
    """What a watch of the harness's own, past every proxy, brought at *at*.

    *type*: ``ADDED`` (what its first LIST found, too), ``MODIFIED``, ``DELETED``, or ``LOST``: a later LIST
    lacks the object, though nobody deleted it (an older state of etcd was put back).  *object* has ``kind``
    and ``metadata``, and is the last state known where it was deleted or lost.
    """

    at: float
    type: str
    object: Json


@dataclass(frozen=True)
class Sample:
    """What a process used at one time: *rss* and *log* in bytes, *cpu* in seconds since it began."""

    at: float
    rss: int
    threads: int
    descriptors: int
    cpu: float
    log: int


@dataclass(frozen=True)
class Probe:
    """What the probes answered: status codes, 0 where nothing did; *page* is what ``/readyz`` said."""

    at: float
    healthz: int
    readyz: int
    page: str = ""


@dataclass(frozen=True)
class Process:
    """One run of the public command.

    *terminated*: when SIGTERM was sent, if it was.  *ended* is None while it runs.  *code*: as
    ``Popen.returncode``, below 0 for a signal.  *expected_end*: the test or its supervisor ended it.
    """

    command: Sequence[str]
    pid: int
    started: float
    ended: float | None = None
    code: int | None = None
    terminated: float | None = None
    expected_end: bool = False
    samples: Sequence[Sample] = ()
    probes: Sequence[Probe] = ()
    log: str = ""


@dataclass(frozen=True)
class Fault:
    """What was broken from *began* to *ended*.

    *kind*: ``zookeeper`` (nobody reaches it), ``apiserver`` (the same), ``process`` (stopped or throttled),
    ``refused`` (writes are), ``object`` (a bad one is there), ``nodes`` (silent); others mean nothing to the
    checks.  *services*: those that alone may suffer; None: all may.  *recovery*: how many seconds after its
    end all has to be right again.
    """

    kind: str
    began: float
    ended: float
    services: frozenset[str] | None = None
    recovery: float = 15.0
    note: str = ""


@dataclass(frozen=True)
class Limits:
    """What one process may use at most."""

    rss: int = 400 * 2**20
    threads: int = 100
    descriptors: int = 200
    retries_per_second: float = 20.0  # requests that fail, above a burst of 40
    log_per_second: float = 16 * 1024  # bytes, above a burst of 256 KiB
    quiet_cpu: float = 0.3  # seconds of CPU a second, while nothing happens


@dataclass(frozen=True, eq=False)  # what was made out of it once is kept by its identity
class Evidence:
    """One test, as it was witnessed from *began* to *ended*.

    * ``logs``: ZooKeeper's, one for each life of its data, of the whole server: other tests' paths are
      passed over.
    * ``other_sessions``: of the harness's and the test's own clients; all others are the product's.
    * ``own_user``: the product's user as the API server names it; ``requests`` may be everybody's.
    * ``history``: pods, Nodes, RpcServices, LocalServices, Services and Namespaces, of the controller's
      namespaces only (Nodes: all), from before the first process until *ended*.
    * ``layouts``: as ``--layout``: name and base path.  ``flags``: what else the oracle's ``World`` takes, by
      name.
    * ``prompt``: how many seconds a change may take while nothing is broken.
    * ``quiet``: spans in which nobody changed anything, all of it having been right before.
    * ``foreign``: znodes put there before the first process, and no business of the product's.
      ``foreign_objects``: the same of Kubernetes, as (resource, namespace, name).
    * ``secrets``: values that appear in no log and no text; ``texts``: all else that the product shows
      (metrics, Events, pages), by name.
    * ``reference``: ``invariants.summary`` of the same journey undisturbed, where there is one.
    * ``allow``: invariants that the test breaks by intent, by name, with the reason.
    """

    began: float
    ended: float
    cluster_id: str
    layouts: Sequence[tuple[str, str]]
    own_user: str
    logs: Sequence[Log]
    requests: Sequence[Request]
    history: Sequence[Change]
    processes: Sequence[Process]
    other_sessions: frozenset[int] = frozenset()
    flags: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    prompt: float = 15.0
    quiet: Sequence[tuple[float, float]] = ()
    foreign: Mapping[str, bytes] = field(default_factory=dict)
    foreign_objects: frozenset[tuple[str, str, str]] = frozenset()
    secrets: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    reference: Mapping[str, tuple[int, int]] | None = None
    limits: Limits = Limits()
    allow: Mapping[str, str] = field(default_factory=dict)
