"""What this process and those before it saw of the API server, so that a restored one is noticed."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec
import structlog

from rpcregistry.model import RELEASE, RESTORED, Pod
from rpcregistry.plan.restored import Record, advanced, lease_behind, releases_all
from rpcregistry.reconcile.ports import Change, LeaseNotes
from rpcregistry.reconcile.withdrawn import Withdrawn

log = structlog.get_logger(__name__)

LeaseVersion = tuple[str, int]  # uid and resourceVersion


class Past(Protocol):
    """What a guard asks of the memory.

    *holds*: while true, an absence confirms nothing, however long it lasts.  *accepted*: how often a person
    took the server as it is, which releases what was held for that reason.  ``check`` reads once more what
    shows a restored server first: the Lease, and an RpcService; it may raise a ``Retry``.
    *withdrawn*: what guards withdrew a moment ago.
    """

    withdrawn: Withdrawn

    @property
    def holds(self) -> bool: ...
    @property
    def accepted(self) -> int: ...
    def check(self) -> None: ...


class Memory:
    """Whether the API server counts as restored, and what was seen of it since; any thread may call it.

    The heartbeat keeps it beyond the process (``record``), and so does the Lease's annotation ``RESTORED``.
    Which pods a watch event showed since is lost with the process.  The next one waits for another event of
    each, so it publishes and withdraws less, never more.
    """

    def __init__(self, notes: LeaseNotes, withdrawn: Withdrawn) -> None:
        self._notes = notes
        self.withdrawn = withdrawn
        self._confined: Callable[[], bool] = bool  # set before anything starts, too
        self._pods: Callable[[], Iterable[Pod]] = tuple  # set before anything starts, as the next two
        self._checks: list[Callable[[], None]] = []
        self._on_change: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # protects all that follows; nothing is called under it
        self._record: Record | None = None  # None until the heartbeat was read
        self._compared = False  # whether each kind was compared with it
        self._restored = ""
        self._word: str | None = None  # on the Lease, as read last
        self._shown: set[str] = set()  # uids, by watch events: kept until we lead, and while restored
        self._trusted: frozenset[str] = frozenset()  # uids that we knew when the server went back
        self._accepted = 0

    def follow(self, pods: Callable[[], Iterable[Pod]]) -> None:
        """Have *pods* return the known pods; before anything starts."""
        self._pods = pods

    def hold_while(self, confined: Callable[[], bool]) -> None:
        """Hold all absences while *confined*, too; before anything starts."""
        self._confined = confined

    def add(self, check: Callable[[], None]) -> None:
        """Have ``check`` call *check*, too; before anything starts."""
        self._checks.append(check)

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Call *on_change* when ``holds`` or ``restored`` may have changed; before anything starts."""
        self._on_change.append(on_change)

    def check(self) -> None:
        """Read once more what shows a restored server first; raises a ``Retry``."""
        for check in self._checks:
            check()

    # what is asked

    @property
    def restored(self) -> str:
        """Why the server counts as restored; ``""`` if it does not."""
        return self._restored

    @property
    def holds(self) -> bool:
        """Whether an absence confirms nothing: the server was restored, or nobody knows yet.

        Or we do not lead: then only what we see go is withdrawn.
        """
        return bool(self._restored) or not self._compared or self._confined()

    @property
    def accepted(self) -> int:
        """How often a person took the server as it is."""
        return self._accepted

    def floor(self, kind: str) -> int:
        """The resourceVersion that the server had reached for a kind, as an earlier process noted it."""
        with self._lock:
            return 0 if self._restored or self._record is None else self._record.versions.get(kind, 0)

    def is_shown(self, uid: str) -> bool:
        """Whether a watch event showed the pod since the server was restored."""
        with self._lock:
            return uid in self._shown

    def may_publish(self, uid: str) -> bool:
        """Whether the pod may be added: it was shown since, or known before."""
        with self._lock:
            return uid in self._shown or uid in self._trusted

    # what is noted

    def note_pod(self, change: Change[Pod]) -> None:
        """Note which pods watch events show."""
        pod = change.new or change.old
        if pod is None or change.listed:
            return
        with self._lock:
            if self._restored or (self._record is None and change.new):
                self._shown.add(pod.uid)
            else:
                self._shown.discard(pod.uid)

    def note_rows(self, uids: Iterable[str]) -> None:
        """Without a pod controller: note the pods whose rows a watch event changed."""
        with self._lock:
            if self._restored:
                self._shown.update(uids)

    def note_word(self, word: str) -> None:
        """Note the release word on the Lease: a new one for everything takes the server as it is."""
        with self._lock:
            ends = bool(self._restored) and releases_all(self._word, word)
            self._word = word
        if ends:
            self._accept()

    def judge(self, record: Record, before: LeaseVersion | None, annotations: Mapping[str, str]) -> None:
        """Compare the Lease with *record*, the heartbeat's; *before*: the Lease before this process wrote it.

        Then the caller compares each kind, and calls ``compared``.
        """
        behind = lease_behind(record, *before) if before else ""
        with self._lock:
            self._record = record
            if not self._restored:
                self._restored = record.restored or annotations.get(RESTORED, "") or behind
            if not self._restored:
                self._shown.clear()  # from now on, only of a server that goes back
        self._tell()

    def compared(self) -> None:
        """Note that each kind was compared with the record."""
        with self._lock:
            self._compared = True
        self._notify()

    def went_back(self, reason: str) -> None:
        """Note that the server was restored while we watched it."""
        known = frozenset(pod.uid for pod in self._pods() if self._compared)
        word = (self._notes.annotations or {}).get(RELEASE, "")
        with self._lock:
            # The Lease may have gone back, too: its old word is no new one.
            self._word = None if self._word is None else word
            if self._restored:
                return
            self._restored, self._trusted = reason, known
            self._shown.clear()
        self._tell()
        self._notify()

    def _accept(self) -> None:
        with self._lock:
            self._restored = ""
            self._record = Record() if self._record else None  # the next heartbeat has the present numbers
            self._shown.clear()
            self._trusted = frozenset()
            self._accepted += 1
        log.info("the API server is taken as it is")
        self._notes.annotate(RESTORED, None)
        self._notify()

    def _tell(self) -> None:
        reason = self._restored
        if reason:
            log.error("the API server was restored to an older state: nothing is withdrawn", reason=reason)
            self._notes.annotate(RESTORED, reason)

    def _notify(self) -> None:
        for on_change in self._on_change:
            on_change()

    def record(self, present: Record) -> Record:
        """The record to write into the heartbeat, once *present* was seen; while restored it stands still."""
        with self._lock:
            before = self._record or Record()
            if self._restored:
                self._record = msgspec.structs.replace(before, restored=self._restored)
            else:
                self._record = advanced(before, present)
            return self._record
