"""Whether the API server was restored to an older state, by a backup of etcd.

Each process leaves a *record* in the heartbeat: how far the server had come.  A server that is behind the
record was restored.  Numbers of different kinds are never compared: each kind may lie in an etcd of its own.

While the server counts as restored, it does not know the pods that came after the backup, and lists pods that
are long gone.  So a pod changes nothing before a watch event showed it: its address stays if it is published,
and is not added if it is not.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from rpcregistry.plan.guard import Id, Verdict

LEASES = "leases"  # the Lease's kind, among the others
UNTIL_RELEASED = "the API server was restored to an older state, so nothing that it lacks is withdrawn"
ALL = "`rpcregistry release --all` ends this"


class Known(msgspec.Struct, frozen=True, array_like=True):
    """An object (``NAMESPACE/NAME``) at its own resourceVersion."""

    key: str
    uid: str
    version: int


class Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How far the API server had come.

    *versions*: the highest resourceVersion seen of each kind, by its plural.  *lease_uid* and
    *lease_version*: the Lease as it was written or read last.  *newest*: the RpcServices that changed last, a
    few of them.  *restored*: since when the server counts as
    restored, and why; ``""`` if it does not.
    """

    versions: Mapping[str, int] = {}
    lease_uid: str = ""
    lease_version: int = 0
    newest: tuple[Known, ...] = ()
    restored: str = ""


def list_behind(kind: str, known: int, version: int) -> str:
    """Why a quorum LIST at *version* shows a restored server; ``""`` if it does not.

    >>> list_behind("pods", 50, 20), list_behind("pods", 50, 50)
    ("pods: the server's resourceVersion went back from 50 to 20", '')
    """
    behind = version < known
    return f"{kind}: the server's resourceVersion went back from {known} to {version}" if behind else ""


def lease_behind(record: Record, uid: str, version: int) -> str:
    """Why the Lease, read before it was taken over, shows a restored server; ``""`` if it does not.

    It shows that even if the server's counter was raised, or has caught up.

    >>> lease_behind(Record(lease_uid="u", lease_version=50), "u", 20)
    'the Lease went back from resourceVersion 50 to 20'
    >>> lease_behind(Record(lease_uid="u", lease_version=50), "another", 20)
    ''
    """
    if uid != record.lease_uid or version >= record.lease_version:
        return ""
    return f"the Lease went back from resourceVersion {record.lease_version} to {version}"


def object_behind(kind: str, known: Known, uid: str, version: int) -> str:
    """Why an object, found with *uid* at *version*, shows a restored server; ``""`` if it does not."""
    if uid != known.uid or version >= known.version:
        return ""
    return f"{kind}: {known.key} went back from resourceVersion {known.version} to {version}"


def notes_of(text: str) -> tuple[tuple[str, int], ...]:
    """Which processes took the Lease over, and at which resourceVersion: ``HOLDER=VERSION …``, oldest first.

    >>> notes_of("p1=5 p2=9 ?")
    (('p1', 5), ('p2', 9))
    """
    pairs = (word.rpartition("=") for word in text.split())
    return tuple((holder, int(version)) for holder, _, version in pairs if holder and version.isdecimal())


def before(notes: Sequence[tuple[str, int]], holder: str, version: int) -> int:
    """The lowest resourceVersion of the Lease since the process *holder* wrote the heartbeat.

    *notes*: the takeovers that the Lease notes, *version*: its present one.  Who wrote a heartbeat had
    compared all that was noted until then.

    >>> [before((("p1", 5), ("p2", 9)), holder, 12) for holder in ("p0", "p1", "p2")]
    [5, 9, 12]
    """
    compared = max((number for number, (who, _) in enumerate(notes, 1) if who == holder), default=0)
    return min([version, *(noted for _, noted in notes[compared:])])


def advanced(record: Record, present: Record) -> Record:
    """*record* once *present* was seen, too: of each number the highest.

    While the server counts as restored, the record stands still.

    >>> advanced(Record({"pods": 5}), Record({"pods": 4, "nodes": 9})).versions
    {'pods': 5, 'nodes': 9}
    """
    if record.restored:
        return record
    versions = {**record.versions}
    for kind, version in present.versions.items():
        versions[kind] = max(version, versions.get(kind, 0))
    return msgspec.structs.replace(present, versions=versions)


def hold_all(absent: Collection[Id], released: Collection[Id]) -> Verdict[Id]:
    """What a guard decides while the server counts as restored: only a person releases anything."""
    let_go = frozenset(released).intersection(absent)
    return Verdict(let_go, {subject: float("inf") for subject in absent if subject not in let_go})


def releases_all(before: str | None, word: str) -> bool:
    """Whether the Lease's new release *word* is for everything; *before*: the one before, None if unknown.

    >>> [releases_all(*words) for words in (("", "w1"), ("w1", "w1"), ("", "w1 echo"), (None, "w1"))]
    [True, False, False, False]
    """
    return before is not None and word != before and len(word.split()) == 1
