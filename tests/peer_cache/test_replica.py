"""Replicas that talk by gRPC, told by the test who their peers are."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from peer_cache.entries import Entry, Key, Version
from peer_cache.links import CONNECT_TIMEOUT, NotFilled, Unavailable
from tests.cluster.waiting import eventually


def test_a_value_set_on_any_is_on_all(network):
    nodes = [network.add() for _ in range(5)]
    for number, node in enumerate(nodes):
        node.replica.set({Key(number, "k"): f"from {number}"})
    for number in range(5):
        eventually(lambda number=number: [n.value("k", number) for n in nodes] == [f"from {number}"] * 5)


def test_a_new_one_takes_all_from_the_oldest(network):
    oldest, second = network.add(), network.add()
    oldest.replica.cache.set({Key(0, "a"): "x", Key(7, "b"): "y"})
    second.replica.cache.set({Key(0, "c"): "z"})
    new = network.add()
    assert (new.value("a"), new.value("b", 7), new.value("c")) == ("x", "y", None)
    assert new.replica.filled


@pytest.fixture(params=["refuses", pytest.param("never answers", marks=pytest.mark.full)])
def dead(network, request):
    """The oldest pod: listed, and not to be reached."""
    oldest = network.add(serving=False)
    if request.param == "refuses":
        yield oldest
        return
    with socket.create_server((oldest.pod.ip, network.port)):
        yield oldest


def test_where_the_oldest_is_dead_the_next_one_is_asked(network, dead):
    network.add().replica.cache.set({Key(0, "k"): "x"})
    assert network.add().value("k") == "x"


def test_a_pod_that_is_listed_and_does_not_run_is_not_waited_for(network):
    network.add(serving=False)
    network.listed[0] = network.listed[0]._replace(started_at="")
    new = network.add(filled=False)
    assert new.replica.exchange()


def test_those_that_start_together_do_not_wait_for_each_other(network):
    nodes = [network.add(filled=False) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda node: node.replica.fill(patience=60), nodes))
    assert all(node.replica.filled for node in nodes)


def test_an_unfilled_one_is_asked_in_vain(network):
    """Else a new one would take an empty cache from a peer that is as new."""
    source = network.add()
    source.replica.cache.set({Key(0, "k"): "x"})
    unfilled = network.add(filled=False)
    network.listed.reverse()
    assert network.add().value("k") == "x"
    assert not unfilled.replica.filled


def test_it_waits_for_a_peer_that_does_not_answer_yet(network):
    source = network.add(serving=False)
    source.replica.cache.set({Key(0, "k"): "x"})
    new = network.add(filled=False)
    filling = threading.Thread(target=new.replica.fill, args=(60,))
    assert not new.replica.exchange()
    filling.start()
    source.serve()
    filling.join(60)
    assert new.value("k") == "x"


def test_it_does_not_wait_for_ever(network):
    network.add(serving=False)
    assert network.add(filled=True).replica.filled


def test_one_that_is_stopped_while_it_waits_was_never_ready(network):
    network.add(serving=False)
    new = network.add(filled=False)
    filling = threading.Thread(target=new.replica.fill, args=(60,))
    filling.start()
    new.replica.stop()
    filling.join(60)
    assert not filling.is_alive()
    assert not new.replica.filled


def test_two_sets_of_a_key_at_once_end_the_same_everywhere(network):
    nodes = [network.add() for _ in range(3)]
    key, together = Key(0, "k"), threading.Barrier(2)

    def set_often(node):
        for number in range(50):
            together.wait(60)
            node.replica.set({key: f"{number} from {node.pod.ip}"})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(set_often, nodes[:2]))

    def ends():
        return {node.replica.cache.entries().get(key) for node in nodes}

    eventually(lambda: len(ends()) == 1 and not any(n.replica.delivering for n in nodes))
    assert ends().pop().value.startswith("49 from")


@pytest.mark.parametrize(
    "missed_by",
    [
        pytest.param([0], id="the oldest"),
        pytest.param([2], id="another"),
        pytest.param([0, 2], id="all others"),
    ],
)
def test_what_a_fan_out_missed_is_healed(network, missed_by):
    nodes = [network.add() for _ in range(3)]
    entries = nodes[1].replica.cache.set({Key(0, "k"): "x"})
    for number in {0, 2} - {*missed_by}:
        nodes[number].replica.cache.take(entries)
    # All exchange with the oldest: the first round gives it what it lacks, and the others take it there.
    for node in nodes[1], nodes[2]:
        assert node.replica.exchange()
    assert [node.value("k") for node in nodes] == ["x"] * 3


def test_a_peer_that_comes_back_gets_what_was_set_meanwhile(network):
    node, peer = network.add(), network.add()
    peer.stop_serving()
    node.replica.set({Key(0, "k"): "x"})
    peer.serve()
    eventually(lambda: peer.value("k") == "x")


def test_one_dead_peer_does_not_keep_values_from_the_others(network, dead):
    node, peer = network.add(), network.add()
    node.replica.set({Key(0, "k"): "x"})
    eventually(lambda: peer.value("k") == "x")


def test_what_is_set_is_delivered_before_it_stops(network):
    node, peer = network.add(), network.add()
    node.replica.set({Key(0, "k"): "x"})
    node.replica.stop()
    assert peer.value("k") == "x"


def test_more_than_grpc_takes_by_default_is_taken_over(network):
    network.add().replica.cache.set({Key(0, str(n)): "x" * 2**20 for n in range(8)})
    assert len(network.add().replica.cache.entries()) == 8


def test_a_link_names_what_fails(network):
    unfilled, silent = network.add(filled=False), network.add(serving=False)
    links = network.add(filled=False).replica._links
    with pytest.raises(NotFilled):
        links.to(unfilled.address).get_all()
    with pytest.raises(Unavailable):
        links.to(silent.address).set({Key(0, "k"): Entry(Version(1, "a"), "x")}, timeout=60)


@pytest.mark.full
def test_a_connection_is_given_up_long_before_an_answer_is(network):
    silent = network.add(serving=False)
    link = network.add(filled=False).replica._links.to(silent.address)
    with socket.create_server((silent.pod.ip, network.port)), ThreadPoolExecutor() as pool:
        patient = grpc.channel_ready_future(grpc.insecure_channel(silent.address))
        waiting = pool.submit(patient.result, timeout=3 * CONNECT_TIMEOUT)
        with pytest.raises(Unavailable):
            link.get_all()
        assert not waiting.done()
        patient.cancel()


def test_a_link_to_a_peer_that_is_gone_is_closed(network):
    node, peer = network.add(), network.add()
    link = node.replica._links.to(peer.address)
    assert link.get_all() == {}
    network.listed.remove(peer.pod)
    assert node.replica.exchange()
    with pytest.raises(Unavailable):
        link.get_all()
