"""When an absence counts."""

import pytest

from controller.plan.guard import judge


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
