"""Which of several reasons Synced shows."""

import itertools

import pytest

from rpcregistry.model import Problem, RpcService
from rpcregistry.plan.conditions import REASONS, first_of
from rpcregistry.plan.outcome import Outcome
from rpcregistry.plan.publication import Publication
from rpcregistry.plan.znodes import synced, unavailable
from tests.builders import row, rpcservice

LAYOUTS = ("OwnedElsewhere", "TooLarge", "InvalidName", "MissingPort")


def service(*reasons: str) -> RpcService:
    unreadable = "no object" if "Unreadable" in reasons else ""
    return rpcservice("echo", row(1, held="Held" in reasons), unreadable=unreadable)


def publication(*reasons: str) -> Publication:
    refused = {"default": Problem("Refused", "403")} if "Refused" in reasons else {}
    return Publication(unwritten=refused)


def shown(*reasons: str) -> str:
    """The reason that Synced shows if all of *reasons* are there, those of layouts in the wrong order."""
    wanted = publication(*reasons)
    if "RegistryUnavailable" in reasons:
        return unavailable(service(*reasons), wanted, 10.0).reason
    outcomes = [Outcome(refusal=Problem(reason, "")) for reason in reversed(LAYOUTS) if reason in reasons]
    return synced(service(*reasons), wanted, outcomes).reason


ALL = [
    ("Unreadable", ("Unreadable", "Refused", "Held", *LAYOUTS)),
    ("Refused", ("Refused", "Held", *LAYOUTS)),
    ("Held", ("Held", *LAYOUTS)),
    ("OwnedElsewhere", LAYOUTS),
    ("TooLarge", LAYOUTS[1:]),
    ("InvalidName", LAYOUTS[2:]),
    ("MissingPort", LAYOUTS[3:]),
    ("InRegistry", ()),
    ("Unreadable", ("Unreadable", "RegistryUnavailable")),
    ("Refused", ("Refused", "RegistryUnavailable")),
    ("Held", ("Held", "RegistryUnavailable")),
    ("RegistryUnavailable", ("RegistryUnavailable",)),
]


@pytest.mark.parametrize(("first", "reasons"), ALL)
def test_the_first_of_several_reasons_shows(first: str, reasons: tuple[str, ...]):
    assert shown(*reasons) == first


def test_a_name_of_another_namespace_comes_after_what_the_pod_controller_finds():
    elsewhere = {"uid-echo": Problem("OwnedElsewhere", "")}
    wanted = Publication(refused=elsewhere, unwritten={"default": Problem("Refused", "")})
    assert synced(service(), wanted, ()).reason == "Refused"
    assert unavailable(service(), Publication(refused=elsewhere), 10.0).reason == "OwnedElsewhere"


def test_what_a_pod_controller_elsewhere_reports_counts_as_its_own_would():
    told = Problem("Refused", "403")
    assert synced(service("Held"), publication(), (), told).reason == "Refused"
    assert synced(service("Unreadable"), publication(), (), told).reason == "Unreadable"
    assert unavailable(service(), publication(), 10.0, told=told).reason == "Refused"


def test_of_two_with_one_reason_the_earlier_shows():
    for one, other in itertools.pairwise(REASONS):
        problems = [Problem(other, ""), Problem(one, "a"), None, Problem(one, "b")]
        assert first_of(problems) == Problem(one, "a")
    assert first_of([None]) is None
