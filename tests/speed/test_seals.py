"""A seal shows each change of a znode or of its children, on every ZooKeeper; before 3.6 there is none."""

from collections.abc import Callable

import pytest

from hack.local.zookeeper import Server
from rpcregistry.plan.ops import Group
from rpcregistry.zookeeper.bulk import MOST
from tests.cluster.waiting import eventually
from tests.speed.test_bulk import (
    IN_BULK,
    MULTI_READ,
    TIMEOUT,
    VERSIONS,
    Reader,
    paths_of,
    reader,
    server,
    servers,
)

__all__ = ["reader", "server", "servers"]

pytestmark = pytest.mark.full


def change_and_back(r: Reader, path: str) -> None:
    r.set_all([path], b"2")
    r.set_all([path], b"1")


def make_anew(r: Reader, path: str) -> None:
    r.other.delete(r.root + path)
    r.make([path])


def make_and_delete_a_child(r: Reader, path: str) -> None:
    r.make([f"{path}/child"])
    r.other.delete(f"{r.root}{path}/child")


CHANGES: dict[str, Callable[[Reader, str], object]] = {
    "its data": lambda r, path: r.set_all([path], b"2"),
    "nothing, by a write": lambda r, path: r.set_all([path], b"1"),
    "its data, and back": change_and_back,
    "made anew": make_anew,
    "gone": lambda r, path: r.other.delete(r.root + path),
    "a child": lambda r, path: r.make([f"{path}/child"]),
    "a child, and not": make_and_delete_a_child,
}


def seals(r: Reader, *groups: Group) -> list[bytes | None]:
    """The seals of *groups*, with all that is read and listed first, as a cache does."""
    for group in groups:
        r.zookeeper.read(group.znodes)
        r.zookeeper.listed(group.children)
    return r.zookeeper.seals(groups)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_has_the_seal_that_it_had_until_something_changes(
    servers: Callable[[str], Server], reader: Callable[..., Reader], version: str
) -> None:
    r = reader(servers(version).address)
    paths = paths_of(2 * len(CHANGES) + 2)
    r.make(paths[:-1])  # the last one is missing
    groups = [Group(paths[at : at + 2], paths[at : at + 1]) for at in range(0, len(paths), 2)]
    before = seals(r, *groups)
    assert seals(r, *groups) == before
    if version not in IN_BULK:
        assert before == [None] * len(groups)
        return
    assert len({*before, None}) == len(groups) + 1
    for number, change in enumerate(CHANGES.values()):
        change(r, paths[2 * number])
    r.make(paths[-1:])
    r.set_all([paths[-2]], b"2")
    changed = {*paths[: 2 * len(CHANGES) : 2], *paths[-2:]}
    eventually(lambda: changed <= set(r.changed), TIMEOUT)  # else a late event takes the next watch away
    after = seals(r, *groups)
    assert [was == found for was, found in zip(before, after, strict=True)] == [False] * len(groups)
    unknown = [change for change, seal in zip(CHANGES, after, strict=False) if seal is None]
    assert unknown == ["gone"], "nobody can watch the children of what is not there"


def test_what_is_not_watched_has_no_seal(server: Server, reader: Callable[..., Reader]) -> None:
    r = reader(server.address)
    paths = paths_of(4)
    r.make(paths)
    group = Group(paths, paths[:1])
    assert r.zookeeper.seals([group]) == [None]
    assert seals(r, group) != [None]
    r.make([f"{paths[0]}/child"])
    eventually(lambda: r.changed == paths[:1], TIMEOUT)  # that used up the watch of its children
    assert r.zookeeper.seals([group]) == [None]
    r.zookeeper.listed(paths[:1])
    assert r.zookeeper.seals([group]) != [None]
    r.set_all(paths[3:], b"2")
    eventually(lambda: paths[3] in r.changed, TIMEOUT)
    assert r.zookeeper.seals([group]) == [None]


def test_a_group_of_any_size_takes_few_requests(server: Server, reader: Callable[..., Reader]) -> None:
    r = reader(server.address)
    paths = paths_of(600)
    for start in range(0, len(paths), 300):
        r.make(paths[start : start + 300])
    small, large = Group(paths[:20], ()), Group(paths, ())
    first = seals(r, small, large)
    r.requests.clear()
    assert r.zookeeper.seals([large, small]) == first[::-1], "however many are asked for at once"
    assert r.requests.count(MULTI_READ) <= 6 + len(paths) // MOST
    r.set_all(paths[-1:], b"2")
    r.zookeeper.read(paths[-1:])
    assert [was == now for was, now in zip(first, r.zookeeper.seals([small, large]), strict=True)] == [
        True,
        False,
    ]


def test_a_lost_connection_is_said(server: Server, reader: Callable[..., Reader]) -> None:
    r = reader(server.address)
    paths = paths_of(4)
    r.make(paths)
    group = Group(paths, ())
    before = seals(r, group)
    r.cut()
    assert r.zookeeper.seals([group]) == [None], "no watch outlives it"
    assert seals(r, group) == before
