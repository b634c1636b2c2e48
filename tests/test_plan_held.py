"""What is said of holds that have no object, and when a count is said again."""

import pytest

from rpcregistry.model import Condition
from rpcregistry.plan import held
from rpcregistry.plan.conditions import says_the_same


def test_the_annotation_names_fifty_services_and_how_many_more_there_are():
    names = [f"s{number:02}" for number in range(62)]
    text = held.annotation(names[::-1])

    assert held.named(text) == (frozenset(names[:50]), 12)


@pytest.mark.parametrize("text", ["", "echo", "{}", "[null]"])
def test_an_annotation_that_a_person_wrote_names_nothing(text: str):
    assert held.named(text) == (frozenset(), 0)


def test_a_note_says_what_until_when_and_how_to_release_it():
    assert held.note("RpcService", {"echo": 3}, "T") == (
        "echo: no RpcService lists 3 published endpoints any more; they stay until T; "
        "`rpcregistry release echo` withdraws them now"
    )
    assert held.note("RpcService", dict.fromkeys("abcde", 2), "T").startswith(
        "a, b, c and 2 more services: no RpcService lists 10 published endpoints"
    )


@pytest.mark.parametrize(
    ("reported", "count", "news"),
    [
        pytest.param(0, 1, True, id="the first"),
        pytest.param(1, 4, False, id="a few more"),
        pytest.param(1, 10, True, id="ten times as many"),
        pytest.param(12, 119, False, id="almost ten times as many"),
        pytest.param(12, 3, False, id="fewer"),
        pytest.param(0, 0, False, id="none"),
    ],
)
def test_a_count_is_reported_again_once_it_has_grown_tenfold(reported: int, count: int, news: bool):
    assert held.is_news(reported, count) == news
    observed, wanted = (
        Condition(type="Synced", status="False", reason="Held", message=f"{number} listed pods are absent")
        for number in (reported, count)
    )
    assert says_the_same(observed, wanted) != news


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        pytest.param("", "Nodes are silent (3 of 3)", True, id="there is no time limit any more"),
        pytest.param("Nodes are silent (3 of 3)", "", True, id="there is one again"),
        pytest.param("Nodes are silent (3 of 3)", "Nodes are silent (2 of 3)", False, id="a Node came back"),
    ],
)
def test_a_hold_without_time_limit_is_news(before: str, after: str, news: bool):
    observed, wanted = (
        Condition(type="Synced", status="False", reason="Held", message=held.pods_message(12, endless))
        for endless in (before, after)
    )
    assert says_the_same(observed, wanted) != news


def test_of_other_reasons_the_count_does_not_matter():
    observed, wanted = (
        Condition(type="Synced", status="False", reason="TooLarge", message=f"{number} bytes")
        for number in (1, 1000)
    )
    assert says_the_same(observed, wanted)
