"""What a command leaves behind about who used it."""

from collections.abc import Mapping
from typing import Any

import pytest

from rpcregistry.errors import Rejected, Retry
from rpcregistry.manifests.made import SELF_REVIEWS
from rpcregistry.model import Regarding
from rpcregistry.telemetry.audit import audit

LEASE = Regarding("coordination.k8s.io/v1", "Lease", "rpcregistry", "rpcregistry", "lease-uid")


class Api:
    """An API server that keeps the Events, and fails where a test says so."""

    def __init__(self, failures: Mapping[str, Exception] = {}) -> None:
        self._failures = failures
        self.events: list[dict[str, Any]] = []

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        plural = path.rpartition("/")[2]
        assert method == "POST"
        if plural in self._failures:
            raise self._failures[plural]
        if path == SELF_REVIEWS.path():
            return {"status": {"userInfo": {"username": "jane"}}}
        assert path == "/apis/events.k8s.io/v1/namespaces/rpcregistry/events"
        self.events.append(dict(body))
        return {}


def test_the_event_on_the_lease_says_who_did_what(capsys: pytest.CaptureFixture[str]):
    api = Api()
    audit(api, LEASE, "Released", "1 service: echo")

    (event,) = api.events
    assert (event["reason"], event["action"], event["type"]) == ("Released", "Released", "Normal")
    assert event["note"] == "jane: 1 service: echo"
    assert event["regarding"]["uid"] == "lease-uid"
    assert capsys.readouterr().err == ""


def test_the_same_done_twice_is_two_events():
    api = Api()
    for _ in range(2):
        audit(api, LEASE, "Released", "1 service: echo")

    assert len({event["metadata"]["name"] for event in api.events}) == 2


def test_a_user_who_may_not_write_events_is_informed_in_one_line(capsys: pytest.CaptureFixture[str]):
    audit(Api({"events": Rejected("events is forbidden")}), LEASE, "Purged", "2 services")

    printed = capsys.readouterr().err
    assert printed == "rpcregistry: no Event Purged was left on the Lease: events is forbidden\n"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Rejected("404 Not Found"), id="a server without such reviews"),
        pytest.param(Retry("no answer"), id="a lost answer"),
    ],
)
def test_an_event_is_left_where_the_server_does_not_say_who_we_are(failure: Exception):
    api = Api({"selfsubjectreviews": failure})
    audit(api, LEASE, "Purged", "2 services")

    assert api.events[0]["note"] == "a user whom the API server does not name: 2 services"
