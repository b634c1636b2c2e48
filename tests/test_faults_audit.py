"""The reader of the API server's audit log, by lines made by hand."""

import json
from pathlib import Path
from typing import Any

from tests.faults.harness.audit import POLICY, Write, flags, read, writes

CREATED = {
    "auditID": "1",
    "stage": "ResponseComplete",
    "requestURI": "/apis/rpcregistry.dev/v1alpha1/namespaces/ns/rpcservices?fieldManager=rpcregistry",
    "verb": "create",
    "user": {"username": "system:serviceaccount:rpcregistry:rpcregistry"},
    "userAgent": "rpcregistry/0.1.0",
    "objectRef": {"resource": "rpcservices", "namespace": "ns", "apiGroup": "rpcregistry.dev"},
    "responseStatus": {"metadata": {}, "code": 201},
    "requestObject": {"spec": {"serviceName": "echo"}},
    "responseObject": {"metadata": {"name": "echo", "resourceVersion": "5"}},
    "requestReceivedTimestamp": "2026-11-30T08:00:00.250000Z",
}


def line(audit_id: str, at: int, **fields: Any) -> str:
    received = f"2026-11-30T08:00:{at:02}.000000Z"
    return json.dumps({**CREATED, "auditID": audit_id, "requestReceivedTimestamp": received, **fields}) + "\n"


def write(file: Path, *lines: str) -> None:
    file.write_text("".join(lines))


def test_a_request_is_who_asked_for_what_and_what_was_answered(tmp_path: Path):
    write(tmp_path / "audit.log", json.dumps(CREATED) + "\n")
    [request] = read(tmp_path / "audit.log")
    assert (request.user, request.agent) == (
        "system:serviceaccount:rpcregistry:rpcregistry",
        "rpcregistry/0.1.0",
    )
    assert (request.verb, request.resource) == ("create", "rpcservices.rpcregistry.dev")
    assert (request.namespace, request.name, request.code) == ("ns", "echo", 201)
    assert request.sent == {"spec": {"serviceName": "echo"}}
    assert request.at == 1796025600.25


def test_subresources_cluster_wide_objects_and_plain_paths_have_names(tmp_path: Path):
    status = {"resource": "pods", "namespace": "ns", "name": "a", "apiVersion": "v1", "subresource": "status"}
    write(
        tmp_path / "audit.log",
        line("1", 1, verb="patch", objectRef=status),
        line("2", 2, verb="get", objectRef={"resource": "nodes", "name": "node1"}, responseObject=None),
        line("3", 3, verb="get", objectRef={}, requestURI="/readyz", responseObject=None),
    )
    found = {(r.resource, r.namespace, r.name) for r in read(tmp_path / "audit.log")}
    assert found == {("pods/status", "ns", "a"), ("nodes", "", "node1"), ("/readyz", "", "")}


def test_rotated_files_are_read_and_requests_stand_in_the_order_in_which_they_came_in(tmp_path: Path):
    write(tmp_path / "audit-2026-11-30T08-10-00.000.log", line("b", 2), line("a", 1))
    write(tmp_path / "audit-2026-11-30T08-20-00.000.log", line("c", 3))
    write(tmp_path / "audit.log", line("d", 4))
    assert [round(request.at % 60) for request in read(tmp_path / "audit.log")] == [1, 2, 3, 4]


def test_a_watch_is_one_request_and_known_once_it_was_answered(tmp_path: Path):
    write(
        tmp_path / "audit.log",
        line("1", 1, verb="watch", stage="ResponseStarted"),
        line("1", 1, verb="watch", stage="ResponseComplete"),
        line("2", 2, verb="watch", stage="ResponseStarted"),
    )
    assert [request.verb for request in read(tmp_path / "audit.log")] == ["watch", "watch"]


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path):
    write(tmp_path / "audit.log", line("1", 1), line("2", 2)[:-20])
    assert len(read(tmp_path / "audit.log")) == 1
    assert read(tmp_path / "there-is-none.log") == ()


def test_writes_are_counted_by_what_came_of_them(tmp_path: Path):
    user = CREATED["user"]["username"]
    refused = {"code": 403}
    write(
        tmp_path / "audit.log",
        line("1", 1),
        line("2", 2),
        line("3", 3, responseStatus=refused),
        line("4", 4, verb="get"),
        line("5", 5, user={"username": "admin"}),
    )
    kind = ("create", "rpcservices.rpcregistry.dev", "ns", "echo")
    assert writes(read(tmp_path / "audit.log"), user) == {
        Write(user, *kind, 201): 2,
        Write(user, *kind, 403): 1,
    }


def test_an_api_server_is_told_a_policy_that_is_there(tmp_path: Path):
    assert f"--audit-policy-file={POLICY}" in flags(tmp_path / "audit.log")
    assert POLICY.is_file()
