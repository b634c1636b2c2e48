"""Writes the Synced condition of RpcServices, on transitions only, and after what clients wait for."""

from collections.abc import Callable

from rpcregistry.manifests import RPCSERVICES, made, regarding
from rpcregistry.model import Condition, ObjectKey, Problem, RpcService
from rpcregistry.plan.conditions import says_the_same, with_condition
from rpcregistry.reconcile.ports import Clock, Events, Kube, Source
from rpcregistry.reconcile.wanted import Wanted

PATIENCE = 30.0  # seconds that a condition gives way to endpoints, at most


class SyncedReconciler:
    """Keeps what the condition should be, and makes it so; ``want`` may be called by any thread.

    *give_way(seconds)* waits up to so long while endpoints are on their way.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        services: Source[RpcService],
        events: Events,
        clock: Clock,
        enqueue: Callable[[ObjectKey], None],
        give_way: Callable[[float], None],
    ) -> None:
        self._kube = kube
        self._services = services
        self._events = events
        self._clock = clock
        self._enqueue = enqueue
        self._give_way = give_way
        self._wanted: Wanted[ObjectKey, Condition] = Wanted()

    def want(self, service: RpcService, condition: Condition) -> None:
        """The condition that *service* should have from now on."""
        # Nothing waits: what was wanted last is in the store, which *service* may be older than.
        if self._wanted.get(service.key) is None:
            latest = self._services.store.get(service.key) or service
            observed = latest.status.condition(condition.type)
            if observed and says_the_same(observed, condition):
                return
        self._wanted.want(service.key, condition, self._clock.monotonic())
        self._enqueue(service.key)

    def reconcile(self, key: ObjectKey) -> bool:
        """Write the condition where it is not what is wanted; return whether it was written."""
        waiting = self._wanted.get(key)
        if waiting is None:
            return False
        self._give_way(waiting[1] + PATIENCE - self._clock.monotonic())
        wanted, _ = self._wanted.get(key) or waiting
        service = self._services.store.get(key)
        changed = False
        if service and service.known:
            observed = service.status.condition(wanted.type)
            changed = observed is None or not says_the_same(observed, wanted)
            if changed:
                self._write(service, wanted)
        self._wanted.done(key, wanted)
        return changed

    def _write(self, service: RpcService, wanted: Condition) -> None:
        now = self._clock.stamp()
        conditions = with_condition(service, wanted, now)
        patch = made.rpcservice_conditions(service, conditions)
        written = self._kube.patch(RPCSERVICES, service.key, patch, "status")
        self._services.observe(written)
        if service.status.condition(wanted.type) is None and wanted.status == "True":
            return  # as it should be, from the beginning: no Event
        stamped = written.status.condition(wanted.type)
        self._events.record(
            regarding(RPCSERVICES, written),
            Problem(wanted.reason, wanted.message),
            "Publish",
            warning=wanted.status != "True",
            salt=stamped.last_transition_time if stamped else now,
        )
