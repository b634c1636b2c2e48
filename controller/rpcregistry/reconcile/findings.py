"""Writes to Synced what the pod controller finds, where no registry in this process does."""

from rpcregistry.model import Condition, ObjectKey, RpcService
from rpcregistry.plan.conditions import FOUND_BY_PODS, first_of, found_by_pods, not_synced, says_the_same
from rpcregistry.reconcile.byname import services_of
from rpcregistry.reconcile.initialsync import InitialSync
from rpcregistry.reconcile.ports import Change, Clock, Events, Kube, Source
from rpcregistry.reconcile.refusals import Backoffs
from rpcregistry.reconcile.synced import ConditionWriter


class FindingReconciler:
    """Writes the condition of one RpcService while there is a finding, and takes it back afterwards.

    It never writes True: that is ZooKeeper's answer, which a registry in another process may write.
    """

    def __init__(
        self,
        *,
        kube: Kube,
        services: Source[RpcService],
        initial_sync: InitialSync,
        events: Events,
        clock: Clock,
    ) -> None:
        self._writer = ConditionWriter(kube, services, events, clock)
        self._backoffs: Backoffs[ObjectKey, RpcService] = Backoffs(lambda service: service.uid, clock)
        self._services = services
        self._initial_sync = initial_sync

    def service_keys(self, change: Change[RpcService]) -> set[ObjectKey]:
        """The key of an RpcService that is there."""
        return {change.new.key} if change.new else set()

    def keys_of(self, name: str) -> set[ObjectKey]:
        """The RpcServices of a service name."""
        return {service.key for service in services_of(self._services, name)}

    def reconcile(self, key: ObjectKey) -> bool:
        """Make Synced show what is found; return whether it was written."""
        attempt = self._backoffs.of(key)
        service = self._services.store.get(key)
        changed = service is not None and self._is_due(service)
        if service and changed:
            attempt.make(service, self._write)
        attempt.finish()
        return changed

    def _is_due(self, service: RpcService) -> bool:
        if not service.known or self._initial_sync.is_pending(service.service_name):
            return False  # its key is not reconciled yet, so a finding of an earlier process may stand
        desired, observed = self._desired(service), service.status.condition("Synced")
        if desired is None:
            return observed is not None and observed.reason in FOUND_BY_PODS
        return observed is None or not says_the_same(observed, desired)

    def _desired(self, service: RpcService) -> Condition | None:
        unlisted = self._initial_sync.unlisted(service.service_name)
        unwritten = unlisted.refusals.get(service.namespace)
        problem = first_of(found_by_pods(service, unwritten, unlisted.endless))
        return not_synced(problem) if problem else None

    def _write(self, service: RpcService) -> None:
        desired = self._desired(service)
        if desired:
            self._writer.write(service, desired)
        else:
            self._writer.remove(service, "Synced")
