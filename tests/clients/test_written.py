"""A client reads what its own library writes, also where it is persistent and somebody else wrote it."""

from collections.abc import Callable

import pytest
from kazoo.client import KazooClient

from hack.clients.golden import RECORDINGS
from hack.clients.watcher import Watcher
from tests.clients.readers import PATIENCE, Reader, lists, parameters, smallest
from tests.clients.written import instance, recording
from tests.cluster.waiting import eventually


@pytest.mark.parametrize("reader", parameters())
def test_a_client_follows_persistent_copies_of_what_its_library_writes(
    reader: Reader, zk_servers: str, lone_zk: KazooClient, start_watcher: Callable[..., Watcher]
):
    made = RECORDINGS[reader.layout]
    port = made.more[-1].rpartition(":")[2]
    one, two = (f"{ip}:{port}" for ip in ("10.0.0.1", "10.0.0.2"))
    first, second = instance(reader.layout, "10.0.0.1"), instance(reader.layout, "10.0.0.2")
    lone_zk.create(*first, makepath=True)

    watcher = start_watcher(reader.client, "watch", zk_servers, *reader.follow(made.base, made.service))
    eventually(lambda: lists(watcher, one), PATIENCE)
    lone_zk.create(*second)
    eventually(lambda: lists(watcher, one, two), PATIENCE)
    lone_zk.delete(first[0])
    eventually(lambda: lists(watcher, two), PATIENCE)

    assert (smallest(watcher), watcher.errors()) == (1, [])


@pytest.mark.parametrize("layout", RECORDINGS)
def test_a_recording_says_what_in_it_is_never_the_same_twice(layout: str):
    recorded = recording(layout)
    text = " ".join(znode["path"] + znode["data"] for znode in recorded["znodes"])
    assert all(word in text for word in recorded["volatile"])
