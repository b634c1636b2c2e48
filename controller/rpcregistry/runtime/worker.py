"""Works a queue: passes its keys to a reconciler, and counts and logs the result of each.

The class of an error decides what happens next (``rpcregistry.errors``).  After a ``Conflict`` the worker
reconciles the key again at once; after any other error it requeues the key.  No key is given up.
"""

import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from rpcregistry.errors import Conflict, Ending, Failure, Fenced, Partial, Rejected, Retry
from rpcregistry.runtime.workqueue import Workqueue

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger(__name__)

IDLE = 5.0  # seconds between two checks whether to stop: closing the queue wakes its workers anyway
PREPARE = 0.2  # seconds between two calls of *prepare*
ATTEMPTS_AT_ONCE = 5


class Meter(Protocol):
    """Counts the results."""

    def reconciled(self, controller: str, result: str, seconds: float) -> None: ...


def work(
    name: str, queue: Workqueue[K], reconcile: Callable[[K], bool], meter: Meter, stopped: Callable[[], bool]
) -> None:
    """Reconcile one key after the other, until stopped; *reconcile* returns whether it wrote."""

    def one(keys: Sequence[K]) -> tuple[dict[K, Exception], Collection[K]]:
        try:
            return {}, keys if _at_once(reconcile, keys[0]) else ()
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  (the worker outlives one key's error)
            return {keys[0]: error}, ()

    work_batches(name, queue, one, 1, meter, stopped)


def work_batches(
    name: str,
    queue: Workqueue[K],
    reconcile: Callable[[Sequence[K]], tuple[Mapping[K, Exception], Collection[K]]],
    limit: int,
    meter: Meter,
    stopped: Callable[[], bool],
    prepare: Callable[[], None] | None = None,
) -> None:
    """Reconcile up to *limit* keys at a time.

    *reconcile* returns the failures by key, and the keys it wrote for.  The worker calls *prepare* before it
    asks the queue, at least every ``PREPARE`` seconds.
    """
    while not stopped():
        if prepare:
            prepare()
        keys = queue.get(limit, PREPARE if prepare else IDLE)
        if not keys:
            continue
        started = time.monotonic()
        failures, written = reconcile(keys)
        seconds = time.monotonic() - started
        for key in keys:
            error = failures.get(key)
            meter.reconciled(name, _result(error), seconds)
            if error is None:
                queue.done(key, seconds if key in written else None)
            else:
                _requeue(name, queue, key, error)


def _at_once(reconcile: Callable[[K], bool], key: K) -> bool:
    """Reconcile *key*; after a ``Conflict``, read and plan again at once, a few times."""
    for _ in range(ATTEMPTS_AT_ONCE - 1):
        with suppress(Conflict):
            return reconcile(key)
    return reconcile(key)


def _requeue(name: str, queue: Workqueue[K], key: K, error: Exception) -> None:
    match error:
        case Partial():
            log.debug("partial", controller=name, key=str(key), reason=str(error))  # the reconciler logs it
            queue.retry(key, after=error.after)
        case Retry():
            log.info("retry", controller=name, key=str(key), reason=str(error))
            queue.retry(key, not_before=error.after)
        case Ending():
            log.debug("namespace is ending", controller=name, key=str(key))
            queue.retry(key)  # until its pods and RpcServices are deleted, and nothing is left to do
        case Rejected():
            log.warning("rejected", controller=name, key=str(key), reason=str(error))
            # Requeue all the same: a permission that was just granted takes a moment to take effect.
            queue.retry(key)
        case Failure():
            log.warning("failed", controller=name, key=str(key), reason=str(error))
            queue.retry(key)
        case _:
            log.error("unexpected", controller=name, key=str(key), exc_info=error)
            queue.retry(key)


def _result(error: Exception | None) -> str:
    match error:
        case None:
            return "done"
        case Conflict():
            return "conflict"
        case Partial(rejected=True) | Rejected():
            return "rejected"
        case Retry():
            return "retry"
        case _:
            return "error"
