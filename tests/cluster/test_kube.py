"""The API server's edge and the informer, on a real API server."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from rpcregistry.errors import Conflict, Expired, Failure, Rejected, Retry, Unknown
from rpcregistry.kube.client import Kube
from rpcregistry.manifests import GROUP, RPCSERVICES, Resource
from rpcregistry.model import ObjectKey, RpcService
from rpcregistry.runtime.informer import Informer
from rpcregistry.runtime.store import Change
from rpcregistry.watch import Applied, Bookmark, Deleted
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.usefixtures("crds")


@pytest.fixture
def kube(cluster: Any) -> Iterator[Kube]:
    kube = Kube.from_config(str(cluster.kubeconfig))
    yield kube
    kube.stop()


def manifest(name: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "RpcService",
        "metadata": {"name": name},
        "spec": spec,
    }


def versions(service: RpcService) -> dict[str, str]:
    return {"uid": service.uid, "resourceVersion": service.resource_version}


class Followed:
    """Checks that an informer's notifications and its store agree."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.notified: dict[ObjectKey, RpcService] = {}
        self.restarts: list[str] = []
        self.informer: Informer[RpcService] = Informer(
            "rpcservices",
            kube.reader(RPCSERVICES, namespace),
            {"name": lambda service: [service.service_name]},
            on_change=self._on_change,
            on_listed=lambda: None,
            on_restart=self.restarts.append,
        )

    def _on_change(self, change: Change[RpcService]) -> None:
        if change.old:
            assert self.notified.pop(change.old.key) == change.old
        if change.new:
            self.notified[change.new.key] = change.new

    @property
    def held(self) -> dict[ObjectKey, RpcService]:
        return {service.key: service for service in self.informer.store.values()}


@contextmanager
def running(kube: Kube, informer: Informer[Any]) -> Iterator[None]:
    """Run the informer; its client is stopped afterwards."""
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(informer.run)
        try:
            yield
        finally:
            informer.stop()
            kube.stop()
            run.result(30)


@contextmanager
def following(kube: Kube, namespace: str) -> Iterator[Followed]:
    followed = Followed(kube, namespace)
    with running(kube, followed.informer):
        yield followed


# Objects


def test_an_object_is_written_read_and_deleted(kube: Kube, namespace: str) -> None:
    created = kube.create(RPCSERVICES, namespace, manifest("a", port=1))
    assert not created.known
    patch = {"metadata": versions(created), "status": {"observedGeneration": 1, "ready": "1/1"}}
    patched = kube.patch(RPCSERVICES, created.key, patch, "status")
    assert kube.get(RPCSERVICES, created.key) == patched
    assert patched.status.ready == "1/1"
    body = {**manifest("a", port=2), "metadata": {"name": "a", **versions(patched)}}
    replaced = kube.replace(RPCSERVICES, created.key, body)
    assert (replaced.spec.port, replaced.status.ready) == (2, "1/1")
    kube.delete(RPCSERVICES, created.key, replaced.uid, replaced.resource_version)
    assert kube.get(RPCSERVICES, created.key) is None
    kube.delete(RPCSERVICES, created.key, replaced.uid, replaced.resource_version)


def test_what_somebody_else_changed_is_a_conflict(kube: Kube, namespace: str) -> None:
    first = kube.create(RPCSERVICES, namespace, manifest("a"))
    kube.patch(RPCSERVICES, first.key, {"spec": {"port": 1}})
    stale = versions(first)
    with pytest.raises(Conflict, match="AlreadyExists"):
        kube.create(RPCSERVICES, namespace, manifest("a"))
    with pytest.raises(Conflict):
        kube.patch(RPCSERVICES, first.key, {"metadata": stale, "spec": {"port": 2}})
    with pytest.raises(Conflict):
        kube.replace(RPCSERVICES, first.key, {**manifest("a"), "metadata": {"name": "a", **stale}})
    with pytest.raises(Conflict):
        kube.delete(RPCSERVICES, first.key, first.uid, first.resource_version)
    with pytest.raises(Conflict):
        kube.patch(RPCSERVICES, ObjectKey(namespace, "never-was"), {"spec": {"port": 2}})
    kept = kube.get(RPCSERVICES, first.key)
    assert kept
    assert kept.spec.port == 1


def test_another_object_of_the_same_name_is_a_conflict(kube: Kube, namespace: str) -> None:
    first = kube.create(RPCSERVICES, namespace, manifest("a"))
    kube.delete(RPCSERVICES, first.key, first.uid, first.resource_version)
    second = kube.create(RPCSERVICES, namespace, manifest("a"))
    with pytest.raises(Conflict):
        kube.patch(RPCSERVICES, first.key, {"metadata": versions(first), "spec": {"port": 2}})
    with pytest.raises(Conflict):
        kube.delete(RPCSERVICES, first.key, first.uid, second.resource_version)
    assert kube.get(RPCSERVICES, first.key) == second


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda kube, key: kube.create(RPCSERVICES, key.namespace, manifest("b", port=0)), id="422"
        ),
        pytest.param(lambda kube, _: kube.create(RPCSERVICES, "no-such-namespace", manifest("b")), id="404"),
        pytest.param(
            lambda kube, key: kube.patch(RPCSERVICES, key, {"spec": "?"}), id="a patch of another shape"
        ),
    ],
)
def test_what_the_server_refuses_is_rejected(
    kube: Kube, namespace: str, write: Callable[[Kube, ObjectKey], object]
) -> None:
    service = kube.create(RPCSERVICES, namespace, manifest("a"))
    with pytest.raises(Rejected):
        write(kube, service.key)


def test_a_name_that_is_none_deletes_no_collection(kube: Kube, namespace: str) -> None:
    for name in ("a", "b", "c"):
        kube.create(RPCSERVICES, namespace, manifest(name))
    for name in ("", ".", "..", "%2e", "a/../b"):
        with pytest.raises(Rejected):
            kube.delete(RPCSERVICES, ObjectKey(namespace, name), "uid", "1")
    assert len(kube.list(RPCSERVICES, namespace).items) == 3


def test_more_objects_than_a_page_holds_are_listed(kube: Kube, namespace: str) -> None:
    names = {f"s-{number}" for number in range(520)}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: kube.create(RPCSERVICES, namespace, manifest(name)), names))
    listing = kube.list(RPCSERVICES, namespace)
    assert {service.name for service in listing.items} == names
    assert len(listing.items) == len(names)
    assert not listing.unreadable
    newest = max(int(service.resource_version) for service in listing.items)
    assert newest <= listing.resource_version <= kube.reader(RPCSERVICES).newest_resource_version()


# Watches


def test_a_watch_tells_what_happens_after_its_version(kube: Kube, namespace: str) -> None:
    before = kube.create(RPCSERVICES, namespace, manifest("before"))
    position = kube.reader(RPCSERVICES, namespace).newest_resource_version()
    events = kube.reader(RPCSERVICES, namespace).watch(position)
    assert next(events) == Bookmark(position)
    service = kube.create(RPCSERVICES, namespace, manifest("a"))
    assert next(events) == Applied(service, int(service.resource_version))
    kube.delete(RPCSERVICES, before.key, before.uid, before.resource_version)
    gone = next(events)
    assert isinstance(gone, Deleted)
    assert (gone.key, gone.uid) == (before.key, before.uid)
    assert gone.resource_version > int(service.resource_version)


def test_a_watch_from_long_ago_is_expired(kube: Kube, namespace: str) -> None:
    with pytest.raises(Expired):
        list(kube.reader(RPCSERVICES, namespace).watch(1))


def test_stopping_breaks_a_silent_watch_at_once(kube: Kube, namespace: str) -> None:
    reader = kube.reader(RPCSERVICES, namespace)
    watching = threading.Event()

    def watch() -> None:
        for _ in reader.watch(reader.newest_resource_version()):
            watching.set()

    with ThreadPoolExecutor(1) as threads:
        over = threads.submit(watch)
        assert watching.wait(10)
        began = time.monotonic()
        kube.stop()
        assert isinstance(over.exception(10), Retry | None)
    assert time.monotonic() - began < 1


# The informer


def test_an_informer_ends_with_what_the_server_has_whoever_wrote_it(
    cluster: Any, kube: Kube, namespace: str
) -> None:
    kube.create(RPCSERVICES, namespace, manifest("there-before"))
    reading = Kube.from_config(str(cluster.kubeconfig))
    with following(reading, namespace) as followed:
        assert followed.informer.filled.wait(30)

        def write(seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(60):
                _write_something(kube, namespace, choose, followed.informer)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
        there = {service.key: service for service in kube.list(RPCSERVICES, namespace).items}
        eventually(lambda: followed.held == there)
        assert followed.notified == there
        assert followed.restarts == []
        for service in there.values():
            assert followed.informer.store.indexed("name", service.service_name) == [service]


def _write_something(
    kube: Kube, namespace: str, choose: random.Random, informer: Informer[RpcService]
) -> None:
    """Create, change or delete one of a few objects; of every other write, notify the informer, too."""
    name = f"s-{choose.randrange(12)}"
    service = informer.store.get(ObjectKey(namespace, name))
    written = None
    with suppress(Conflict):
        if service is None:
            written = kube.create(RPCSERVICES, namespace, manifest(name))
        elif choose.random() < 0.6:
            patch = {"metadata": versions(service), "spec": {"port": choose.randrange(1, 65536)}}
            written = kube.patch(RPCSERVICES, service.key, patch)
        else:
            kube.delete(RPCSERVICES, service.key, service.uid, service.resource_version)
    if written and choose.random() < 0.5:
        informer.observe(written)


# Who may


def as_user(cluster: Any, folder: Path, token: str) -> Kube:
    """A client with another token."""
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return Kube.from_config(str(folder / "kubeconfig"))


@pytest.fixture
def account(cluster: Any, kube: Kube, namespace: str, tmp_path: Path) -> Kube:
    """A client for a ServiceAccount that may do nothing."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    kube.raw("POST", accounts, {"metadata": {"name": "reader"}})
    return as_user(cluster, tmp_path, kube.raw("POST", f"{accounts}/reader/token", {})["status"]["token"])


@pytest.fixture
def permit(cluster: Any, kube: Kube, namespace: str) -> Callable[[bool], None]:
    """Lets the ServiceAccount read RpcServices, or revokes that."""
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rule = {"apiGroups": [GROUP], "resources": ["rpcservices"], "verbs": ["get", "list", "watch"]}
    kube.raw("POST", f"{roles}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}

    def permit(allowed: bool) -> None:
        if allowed:
            body = {"metadata": {"name": "reader"}, "roleRef": reference, "subjects": [subject]}
            kube.raw("POST", f"{roles}/rolebindings", body)
        else:
            cluster.kubectl("delete", "rolebinding", "reader", "--namespace", namespace)

    return permit


def test_a_token_that_is_wrong_makes_the_source_unknown(cluster: Any, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="401"):
        as_user(cluster, tmp_path, "wrong").list(RPCSERVICES, namespace)


def test_a_source_that_is_forbidden_is_unknown_until_it_is_permitted(
    account: Kube, kube: Kube, namespace: str, permit: Callable[[bool], None]
) -> None:
    service = kube.create(RPCSERVICES, namespace, manifest("a"))
    with following(account, namespace) as followed:
        eventually(lambda: followed.informer.unknown)
        assert "403" in (followed.informer.unknown or "")
        with pytest.raises(Unknown):
            followed.informer.second_look()
        assert not followed.informer.filled.is_set()
        permit(True)
        assert followed.informer.filled.wait(30)
        assert followed.informer.unknown is None
        assert followed.informer.store.values() == followed.informer.second_look() == [service]
        permit(False)
        eventually(lambda: _is_forbidden(followed.informer))
        assert followed.informer.store.values() == [service]


def _is_forbidden(informer: Informer[RpcService]) -> bool:
    try:
        informer.second_look()
    except Unknown:
        return True
    return False


# A resource that comes and goes


class Widget(msgspec.Struct, frozen=True):
    """An object of a kind without a schema."""

    name: str
    namespace: str
    uid: str

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)


class _Widget(msgspec.Struct):
    metadata: Widget


WIDGETS: Resource[Widget] = Resource(
    "kube.test", "v1", "widgets", "Widget", lambda data: msgspec.json.decode(data, type=_Widget).metadata
)
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.kube.test"},
    "spec": {
        "group": "kube.test",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def widget(name: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "kube.test/v1", "kind": "Widget", "metadata": {"name": name}, **fields}


@pytest.fixture
def widgets(cluster: Any, kube: Kube) -> Iterator[None]:
    """The CRD of widgets."""
    serve_widgets(kube)
    yield
    drop_widgets(cluster)


def serve_widgets(kube: Kube) -> None:
    kube.raw("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    eventually(lambda: _is_served(kube))


def drop_widgets(cluster: Any) -> None:
    cluster.kubectl("delete", "crd", "widgets.kube.test", "--ignore-not-found")


def _is_served(kube: Kube) -> bool:
    try:
        kube.list(WIDGETS)
    except Failure:
        return False
    return True


@pytest.mark.usefixtures("widgets")
@pytest.mark.parametrize("mebibytes", [1.6, 2.5, 3.2])
def test_an_object_that_is_too_large_is_rejected_however_the_server_says_so(
    kube: Kube, namespace: str, mebibytes: float
) -> None:
    with pytest.raises(Rejected):
        kube.create(WIDGETS, namespace, widget("large", data="x" * int(mebibytes * 1024 * 1024)))


@pytest.mark.usefixtures("widgets")
def test_a_resource_that_is_not_served_any_more_is_unknown_and_not_empty(
    cluster: Any, kube: Kube, namespace: str
) -> None:
    made = kube.create(WIDGETS, namespace, widget("a"))
    reading = Kube.from_config(str(cluster.kubeconfig))
    informer: Informer[Widget] = Informer(
        "widgets",
        reading.reader(WIDGETS),
        {},
        on_change=lambda _: None,
        on_listed=lambda: None,
        on_restart=lambda _: None,
    )
    with running(reading, informer):
        assert informer.filled.wait(30)
        assert informer.store.values() == [made]
        drop_widgets(cluster)
        eventually(lambda: informer.unknown)
        assert "404" in (informer.unknown or "")
        with pytest.raises(Unknown):
            kube.get(WIDGETS, made.key)
        serve_widgets(kube)
        eventually(lambda: informer.unknown is None)
        again = kube.create(WIDGETS, namespace, widget("a"))
        eventually(lambda: informer.store.values() == [again])
