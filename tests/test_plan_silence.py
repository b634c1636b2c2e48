"""When the silence of Nodes is common, when the wait for their pods begins, whose word a pod's state is."""

import json
from math import inf

import pytest

from rpcregistry.manifests import decode_pod
from rpcregistry.plan.guard import judge
from rpcregistry.plan.silence import CALM, LEAST, Silence, at_start, observe


def nodes(silent: int, of: int) -> dict[str, bool]:
    """So many Nodes, the first ones of them silent."""
    return {f"n{number}": number >= silent for number in range(of)}


def known(silent: int, of: int, now: float = 0.0) -> Silence:
    """The state of a process that first saw all Nodes Ready, then so many silent."""
    return observe(observe(at_start(now), nodes(0, of), False, now), nodes(silent, of), True, now)


@pytest.mark.parametrize(
    ("silent", "of", "common"),
    [
        pytest.param(0, 0, False, id="no Node that counts"),
        pytest.param(0, 1, False, id="0 of 1"),
        pytest.param(1, 1, True, id="1 of 1"),
        pytest.param(1, 2, False, id="1 of 2"),
        pytest.param(2, 2, True, id="2 of 2"),
        pytest.param(2, 3, False, id="2 of 3 are no more than two"),
        pytest.param(3, 3, True, id="3 of 3"),
        pytest.param(3, 4, True, id="3 of 4"),
        pytest.param(5, 10, False, id="half of 10"),
        pytest.param(6, 10, True, id="6 of 10"),
        pytest.param(11, 20, True, id="55 %"),
        pytest.param(54, 100, False, id="54 %"),
    ],
)
def test_a_silence_begins(silent: int, of: int, common: bool):
    assert known(silent, of).common is common


@pytest.mark.parametrize(
    ("silent", "of", "after", "common"),
    [
        pytest.param(0, 10, 0.0, False, id="all are back"),
        pytest.param(1, 10, 0.0, False, id="10 %, at once"),
        pytest.param(2, 10, 0.0, True, id="20 %, at once"),
        pytest.param(2, 10, CALM - 1, True, id="20 %, before a minute has passed"),
        pytest.param(2, 10, CALM, False, id="20 %, after a minute"),
        pytest.param(5, 10, CALM, False, id="50 %, after a minute"),
        pytest.param(6, 10, CALM * 60, True, id="60 %, after an hour"),
        pytest.param(2, 3, CALM * 60, True, id="2 of 3, after an hour"),
        pytest.param(1, 2, CALM - 1, True, id="1 of 2, before a minute has passed"),
        pytest.param(1, 2, CALM, False, id="1 of 2, after a minute"),
    ],
)
def test_a_silence_ends(silent: int, of: int, after: float, common: bool):
    state = observe(known(of, of), nodes(silent, of), True, 100.0)
    state = observe(state, nodes(silent, of), True, 100.0 + after)

    assert state.common is common
    assert state.ended == (0.0 if common else 100.0 + after)


def test_it_says_when_it_ends_unless_a_node_changes():
    state = observe(known(10, 10), nodes(4, 10), True, 100.0)
    assert state.ends == 100.0 + CALM
    assert observe(state, nodes(3, 10), True, 130.0).ends == 130.0 + CALM
    assert known(10, 10).ends == inf
    assert known(1, 10).ends == inf


def test_nodes_that_flap_prolong_it():
    state = known(10, 10)
    for now in range(10, 600, 10):
        state = observe(state, nodes(3 + now // 10 % 2, 10), True, float(now))
        assert state.common


def test_others_that_flap_do_not_begin_one():
    state = known(1, 10)
    for now in range(10, 600, 10):
        state = observe(state, nodes(1 + now // 10 % 2, 10), True, float(now))
        assert not state.common


@pytest.mark.parametrize(
    ("left", "holds", "common"),
    [
        pytest.param({}, True, True, id="nobody is left to speak"),
        pytest.param({}, False, False, id="nothing is held any more"),
        pytest.param({"n9": False}, True, True, id="one is left, and silent"),
        pytest.param({"n9": True}, True, False, id="one is left, and back"),
        pytest.param({"new": True}, True, False, id="pods run on new Nodes"),
    ],
)
def test_silent_nodes_that_are_deleted(left: dict[str, bool], holds: bool, common: bool):
    assert observe(known(10, 10), left, holds, 10.0).common is common


@pytest.mark.parametrize(
    ("silent", "of", "common"),
    [
        pytest.param(0, 3, False, id="all are Ready"),
        pytest.param(1, 10, False, id="1 of 10"),
        pytest.param(1, 3, True, id="1 of 3: it may be what is left of a common silence"),
        pytest.param(3, 3, True, id="3 of 3"),
    ],
)
def test_a_new_process_holds_as_long_as_the_one_before_or_longer(silent: int, of: int, common: bool):
    state = observe(at_start(0.0), nodes(silent, of), True, 5.0)
    assert state.common is common
    assert not common or state.ends in (5.0 + CALM, inf)


@pytest.mark.parametrize(
    ("state", "turned", "begins"),
    [
        pytest.param(known(1, 10), 50.0, 50.0, id="as the Node turned"),
        pytest.param(known(10, 10), 50.0, inf, id="not while all are silent"),
        pytest.param(observe(known(10, 10), nodes(1, 10), True, 90.0), 50.0, 90.0, id="anew after a silence"),
    ],
)
def test_a_wait_begins(state: Silence, turned: float, begins: float):
    assert state.wait_begins(turned) == begins


@pytest.mark.parametrize(
    ("weight", "begins", "confirm", "until"),
    [
        pytest.param(10, 100.0, 30.0, 115.0, id="few wait, too, from when their Node turned"),
        pytest.param(11, 100.0, 30.0, 132.0, id="many wait for the confirmation, from when they were held"),
        pytest.param(11, 110.0, 30.0, 140.0, id="or from when the wait began anew"),
        pytest.param(11, 100.0, 1.0, 102.0 + LEAST, id="and no shorter than few"),
        pytest.param(1, inf, 30.0, inf, id="few without time limit"),
        pytest.param(11, inf, 30.0, inf, id="many without time limit"),
    ],
)
def test_how_long_pods_wait_that_nobody_reports(weight: int, begins: float, confirm: float, until: float):
    verdict = judge(
        {"a": weight}, 1000, {"a": 102.0}, (), now=110.0, confirm=confirm, besides=0, begins={"a": begins}
    )
    assert verdict.hold == {"a": until}


def test_a_release_lets_go_what_waits_without_time_limit():
    absent = {"a": 1, "b": 1}
    begins = dict.fromkeys(absent, inf)
    verdict = judge(absent, 1000, {}, ["a"], now=110.0, confirm=30.0, besides=0, begins=begins)
    assert (verdict.withdraw, verdict.hold) == ({"a"}, {"b": inf})


def test_few_that_are_merely_missing_go_at_once_beside_others():
    verdict = judge({"a": 1, "b": 1}, 1000, {}, (), now=110.0, confirm=30.0, besides=0, begins={"a": 100.0})
    assert (verdict.withdraw, verdict.hold) == ({"b"}, {"a": 115.0})


TRUE = {"type": "ContainersReady", "status": "True"}
FALSE = {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"}


@pytest.mark.parametrize(
    ("conditions", "ready", "silenced"),
    [
        pytest.param([("True", ""), TRUE], True, False, id="Ready"),
        pytest.param([("True", "TheProviderSaysSo")], True, False, id="Ready, with a reason"),
        pytest.param([("False", "ContainersNotReady"), FALSE], False, False, id="its kubelet's word"),
        pytest.param([("False", "ContainersNotReady")], False, False, id="its kubelet's word, and no more"),
        pytest.param([("False", "ReadinessGatesNotReady"), TRUE], False, False, id="a gate is missing"),
        pytest.param([("False", ""), TRUE], False, True, id="marked"),
        pytest.param([("False", "")], False, True, id="marked, and nothing is said of its containers"),
        pytest.param([("False", "TheProviderSaysSo"), TRUE], False, True, id="marked, with a reason"),
        pytest.param([("False", "TheProviderSaysSo"), FALSE], False, False, id="a virtual kubelet's word"),
        pytest.param([("Unknown", "TheProviderSaysSo")], False, True, id="nobody can tell"),
        pytest.param([], False, False, id="nothing is said of it yet"),
    ],
)
def test_whose_word_a_pods_state_is(conditions: list[object], ready: bool, silenced: bool):
    entries = [
        {"type": "Ready", "status": entry[0], "reason": entry[1]} if isinstance(entry, tuple) else entry
        for entry in conditions
    ]
    manifest = {"metadata": {"name": "p", "namespace": "default"}, "status": {"conditions": entries}}
    pod = decode_pod(json.dumps(manifest).encode())
    assert (pod.ready, pod.silenced) == (ready, silenced)
