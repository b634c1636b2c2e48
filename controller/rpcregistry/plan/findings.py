"""The findings of ``verify``, which of them are drift, and the summary line."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from rpcregistry.plan.words import counted

# Each state and its meaning: those of pods and RpcServices first, then those of znodes.
STATES = {
    "not listed": "a pod serves it, and no RpcService lists that",
    "listed wrongly": "an RpcService lists a pod otherwise than it is",
    "listed but gone": "an RpcService lists a pod that does not serve it, or was deleted",
    "unreadable": "an object that cannot be decoded, so its content is unknown",
    "missing": "an RpcService publishes it, and it is not in ZooKeeper",
    "different": "ZooKeeper holds something else than the RpcServices publish",
    "orphaned": "the ledger names it, and no RpcService publishes it",
    "refused": "the registry controller cannot or may not write it",
    "held": "absent, and published until that is confirmed or released",
    "would be adopted": "it existed before rpcregistry, which takes it over with its next write",
    "foreign": "written by another program: left alone",
    "left": "the ledger names it, and no --layout covers it",
}
NO_DRIFT = ("held", "would be adopted", "foreign", "left")
DRIFT = tuple(state for state in STATES if state not in NO_DRIFT)


class Finding(msgspec.Struct, frozen=True, order=True, rename="camel"):
    """One deviation.

    *state*: one of ``STATES``.  *path*: a znode's path in a *layout*.  If *layout* is ``""``, *path* is a
    pod, as ``NAMESPACE/SERVICE/POD``, or an object, as ``NAMESPACE/NAME``.
    """

    layout: str
    path: str
    state: str
    detail: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """The identity by which a second look finds it again."""
        return self.layout, self.path, self.state


class Counts(msgspec.Struct, frozen=True):
    """How much was compared.

    *services*: the service names of pods and RpcServices.  *znodes*: our own ones.
    """

    services: int = 0
    znodes: int = 0
    pods: int = 0

    def __str__(self) -> str:
        """In words.

        >>> str(Counts(1, 1204, 4000))
        '1 service, 1,204 znodes, 4,000 pods'
        """
        numbers = zip(("service", "znode", "pod"), (self.services, self.znodes, self.pods), strict=True)
        return ", ".join(counted(number, noun) for noun, number in numbers)


def confirmed(first: Iterable[Finding], second: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings of both looks; one that only one look saw was a change in progress."""
    places = {finding.place for finding in first}
    return tuple(sorted(finding for finding in second if finding.place in places))


def exit_states(text: str) -> tuple[str, ...]:
    """The states named by ``--exit-on``: a list, ``any`` or ``none``.

    >>> exit_states("missing,would-be-adopted")
    ('missing', 'would be adopted')
    """
    if text in ("any", "none"):
        return tuple(STATES) if text == "any" else ()
    names = tuple(name.strip().replace("-", " ") for name in text.split(","))
    for name in names:
        if name not in STATES:
            raise ValueError(f"{name!r} is no state: choose from {', '.join(STATES)}; or any, or none")
    return names


def exit_code(findings: Iterable[Finding], exit_on: Collection[str]) -> int:
    """1 if there is a finding in a state of *exit_on*, else 0."""
    return int(any(finding.state in exit_on for finding in findings))


def summary(findings: Iterable[Finding], counts: Counts, namespaces: Sequence[str]) -> str:
    """One line: in sync, drift or no drift, and how much was compared."""
    found = Counter(finding.state for finding in findings)
    states = ", ".join(f"{found[state]:,} {state}" for state in STATES if found[state])
    if not (counts.services or counts.znodes):
        where = f"namespace {' '.join(namespaces)}" if namespaces else "any namespace"
        nothing = f"nothing to compare: no pod names a service, and there is no RpcService, in {where}"
        return f"{nothing} ({states})" if states else nothing
    if not states:
        return f"in sync: {counts}"
    return f"{'drift' if found.keys() & set(DRIFT) else 'no drift'}: {states} (looked at {counts})"
