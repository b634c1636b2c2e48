"""What the Lease tells of a server that went back, from one process to the next."""

from collections.abc import Mapping
from typing import Any

import pytest

from rpcregistry.errors import Absent
from rpcregistry.leases import TAKEN_AT, KubeLease
from rpcregistry.model import Lease


class Server:
    """One Lease; *version* is the server's counter."""

    def __init__(self, version: int = 10) -> None:
        self.version = version
        self.manifest: dict[str, Any] | None = self._at({})

    def _at(self, annotations: Mapping[str, str | None]) -> dict[str, Any]:
        kept = {name: value for name, value in annotations.items() if value is not None}
        metadata = {"namespace": "ns", "name": "rpcregistry", "uid": "u", "annotations": kept}
        return {"metadata": {**metadata, "resourceVersion": str(self.version)}, "spec": {}}

    @property
    def annotations(self) -> dict[str, str]:
        assert self.manifest
        return dict(self.manifest["metadata"]["annotations"])

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self.manifest is None:
            raise Absent(path)
        if method == "PATCH" and body:
            self.version += 1
            self.manifest = self._at({**self.annotations, **body["metadata"].get("annotations", {})})
        return self.manifest


def take(server: Server, identity: str) -> KubeLease:
    """A process takes the Lease over."""
    lease = KubeLease(server, "ns", identity=identity)
    lease.get()
    lease.update(Lease(resource_version="1"))
    return lease


def test_the_version_before_the_takeover_is_noted_until_it_was_compared():
    server = Server(10)
    lease = take(server, "p1")
    assert server.annotations == {TAKEN_AT: "p1=10"}
    assert lease.before("p0") == ("u", 10)
    lease.compared()
    lease.update(Lease(resource_version="1"))
    assert server.annotations == {}


def test_what_a_process_noted_that_died_before_it_compared_counts():
    server = Server(10)
    take(server, "p1")
    server.version = 1_000_000
    second = take(server, "p2")
    assert server.annotations == {TAKEN_AT: "p1=10 p2=11"}
    assert second.before("p0") == ("u", 10)
    assert second.before("p1") == ("u", 11), "p1 wrote a heartbeat, so it had compared the Lease"


def test_many_takeovers_keep_the_first_notes():
    server = Server(10)
    for number in range(30):
        lease = take(server, f"p{number}")
    assert len(server.annotations[TAKEN_AT].split()) == 8
    assert lease.before("another") == ("u", 10)


@pytest.mark.parametrize("known", [False, True])
def test_an_answer_that_another_thread_overtook_is_no_sign(known: bool):
    server, told = Server(10), list[str]()
    lease = KubeLease(server, "ns", identity="p1")
    lease.on_went_back(told.append)
    if known:
        lease.get()
    answer, server.raw = server.raw, lambda *_: overtaken()

    def overtaken() -> Any:
        found = answer("GET", "")
        server.raw = answer
        lease.annotate("x", "y")
        lease.update(Lease(resource_version="1"))  # the other thread
        return found

    assert lease.get() is not None
    assert (told, lease.seen, lease.annotations) == ([], ("u", 11), server.annotations)


@pytest.mark.parametrize("look", [KubeLease.get, KubeLease.check])
def test_a_lease_that_is_older_than_it_was_is_told(look):
    server, told = Server(10), []
    lease = take(server, "p1")
    lease.on_went_back(told.append)
    look(lease)
    assert told == []
    server.version = 5
    server.manifest = server._at({})
    look(lease)
    assert told == ["the Lease went back from resourceVersion 11 to 5"]


def test_another_lease_of_its_name_is_no_older_one():
    server, told = Server(10), []
    lease = take(server, "p1")
    lease.on_went_back(told.append)
    server.version = 5
    server.manifest = server._at({})
    server.manifest["metadata"]["uid"] = "another"
    lease.check()
    server.manifest = None
    lease.check()
    assert told == []
