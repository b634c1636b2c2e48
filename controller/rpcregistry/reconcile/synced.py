"""Writes the Synced condition of RpcServices: on transitions only, and after the endpoints in progress."""

from collections.abc import Callable, Sequence

from rpcregistry.manifests import RPCSERVICES, made, regarding
from rpcregistry.model import Condition, ObjectKey, Problem, RpcService
from rpcregistry.plan.conditions import says_the_same, with_condition
from rpcregistry.reconcile.desired import Desired
from rpcregistry.reconcile.ports import Clock, Events, Kube, Source
from rpcregistry.reconcile.refusals import Backoffs

PATIENCE = 30.0  # seconds that a condition yields to endpoints, at most


class ConditionWriter:
    """Writes a condition of an RpcService, and records an Event; for any thread."""

    def __init__(self, kube: Kube, services: Source[RpcService], events: Events, clock: Clock) -> None:
        self._kube = kube
        self._services = services
        self._events = events
        self._clock = clock

    def write(self, service: RpcService, desired: Condition) -> None:
        """Have *service* show *desired*."""
        now = self._clock.stamp()
        written = self._patch(service, with_condition(service, desired, now))
        if service.status.condition(desired.type) is None and desired.status == "True":
            return  # as it should be, from the beginning: no Event
        stamped = written.status.condition(desired.type)
        self._events.record(
            regarding(RPCSERVICES, written),
            Problem(desired.reason, desired.message),
            "Publish",
            warning=desired.status != "True",
            salt=stamped.last_transition_time if stamped else now,
        )

    def remove(self, service: RpcService, type_: str) -> None:
        """Have *service* show no condition of that type."""
        self._patch(service, [entry for entry in service.status.conditions if entry.type != type_])

    def _patch(self, service: RpcService, conditions: Sequence[Condition]) -> RpcService:
        patch = made.rpcservice_conditions(service, conditions)
        written = self._kube.patch(RPCSERVICES, service.key, patch, "status")
        self._services.observe(written)
        return written


class SyncedReconciler:
    """Writes desired conditions; any thread may call ``set_desired``.

    *yield_to_endpoints(seconds)* waits, at most so long, while changes of endpoints are in progress.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        services: Source[RpcService],
        events: Events,
        clock: Clock,
        enqueue: Callable[[ObjectKey], None],
        yield_to_endpoints: Callable[[float], None],
    ) -> None:
        self._writer = ConditionWriter(kube, services, events, clock)
        self._backoffs: Backoffs[ObjectKey, RpcService] = Backoffs(lambda service: service.uid, clock)
        self._services = services
        self._clock = clock
        self._enqueue = enqueue
        self._yield_to_endpoints = yield_to_endpoints
        self._desired: Desired[ObjectKey, Condition] = Desired()

    def set_desired(self, service: RpcService, condition: Condition) -> None:
        """Have *condition* written to *service*."""
        # If none waits, the store has the last one that was desired; *service* may be older than the store.
        if self._desired.get(service.key) is None:
            latest = self._services.store.get(service.key) or service
            observed = latest.status.condition(condition.type)
            if observed and says_the_same(observed, condition):
                return
        self._desired.set(service.key, condition, self._clock.monotonic())
        self._enqueue(service.key)

    def reconcile(self, key: ObjectKey) -> bool:
        """Write the desired condition if the observed one differs; return whether it was written."""
        waiting = self._desired.get(key)
        if waiting is None:
            return False
        self._yield_to_endpoints(waiting[1] + PATIENCE - self._clock.monotonic())
        desired, _ = self._desired.get(key) or waiting
        attempt = self._backoffs.of(key)
        service = self._services.store.get(key)
        changed = False
        if service and service.known:
            observed = service.status.condition(desired.type)
            changed = observed is None or not says_the_same(observed, desired)
            if changed:
                attempt.make(service, lambda service: self._writer.write(service, desired))
        attempt.finish()
        self._desired.done(key, desired)
        return changed
