"""When an absence counts."""

import pytest

from rpcregistry.plan.guard import is_released, judge, lease_word


@pytest.mark.parametrize(
    ("absent", "total", "since", "released", "withdraw"),
    [
        pytest.param({"a": 1}, 1, {}, (), {"a"}, id="one of one"),
        pytest.param({"a": 1, "b": 1}, 3, {}, (), set(), id="two of three are too large a share"),
        pytest.param({"a": 1, "b": 1}, 10, {}, (), {"a", "b"}, id="one in five"),
        pytest.param({"a": 10}, 50, {}, (), {"a"}, id="ten of fifty"),
        pytest.param({"a": 11}, 1000, {}, (), set(), id="more than ten, however small the share"),
        pytest.param({"a": 11}, 1000, {"a": 70.0}, (), {"a"}, id="has lasted"),
        pytest.param({"a": 11, "b": 1}, 1000, {"a": 70.0}, (), {"a"}, id="only what has lasted"),
        pytest.param(
            {"a": 11, "b": 5}, 1000, {"a": 90.0, "b": 90.0}, ["b"], {"b"}, id="only what is released"
        ),
        pytest.param({"a": 11}, 1000, {"a": 90.0}, ["z"], set(), id="a release of something else"),
        pytest.param({}, 0, {}, (), set(), id="nothing"),
    ],
)
def test_what_may_be_withdrawn(absent, total, since, released, withdraw):
    verdict = judge(absent, total, since, released, now=100.0, confirm=30.0, besides=0)

    assert verdict.withdraw == withdraw
    assert verdict.hold.keys() == absent.keys() - withdraw


@pytest.mark.parametrize(
    ("besides", "withdraw"),
    [
        pytest.param(8, {"a"}, id="ten with those of a moment ago"),
        pytest.param(9, set(), id="more than ten with them"),
    ],
)
def test_a_large_loss_in_small_pieces_is_held(besides, withdraw):
    verdict = judge({"a": 2}, 1000, {}, (), now=100.0, confirm=30.0, besides=besides)

    assert verdict.withdraw == withdraw


def test_a_hold_ends_when_it_began_plus_the_confirmation_time():
    assert judge({"a": 11}, 1000, {"a": 90.0}, (), now=100.0, confirm=30.0, besides=0).hold == {"a": 120.0}


@pytest.mark.parametrize(
    ("since", "now", "released"),
    [
        pytest.param({"a": ""}, {"a": ""}, False, id="no word"),
        pytest.param({"a": ""}, {"a": "w1"}, True, id="a word"),
        pytest.param({"a": ""}, {"a": "now, please!"}, True, id="whatever it says"),
        pytest.param({"a": ""}, {"a": "2020-01-01T00:00:00Z"}, True, id="a time is a word, too"),
        pytest.param({"a": "w1"}, {"a": "w1"}, False, id="the word that was there"),
        pytest.param({"a": "w1"}, {"a": ""}, False, id="the word that was there is taken away"),
        pytest.param({"a": "w1"}, {}, False, id="its object goes"),
        pytest.param({"a": "w1"}, {"a": "w2"}, True, id="another word"),
        pytest.param({}, {"a": "w1"}, False, id="the word of an object that came later"),
        pytest.param({"a": "w1", "b": ""}, {"a": "w1", "b": "w1"}, True, id="one of two objects gets it"),
        pytest.param({}, {}, False, id="no object"),
    ],
)
def test_what_lets_go(since, now, released):
    assert is_released(since, now) == released


@pytest.mark.parametrize(
    ("before", "after", "released"),
    [
        pytest.param("", "w1", True, id="a word for all"),
        pytest.param("", "w1 echo", True, id="a word for this one"),
        pytest.param("", "w1 other", False, id="a word for another"),
        pytest.param("w1 other", "w2 other", False, id="another word for another"),
        pytest.param("w1 other", "w1 other echo", True, id="this one is named, too"),
        pytest.param("w1", "w1 other", False, id="another is named, of what was for all"),
        pytest.param("w1 echo", "w2", True, id="a word for all after one for this one"),
    ],
)
def test_what_the_lease_lets_go_of_a_service(before, after, released):
    since, now = ({"Lease": lease_word(value, ["echo"])} for value in (before, after))
    assert is_released(since, now) == released
