"""One verb on one kind is refused for a while: which writes the controller makes, and how each is refused.

The family is ``VERBS`` x ``KINDS`` x ``HOWS``.  ``WRITES`` has those that the controller makes, ``NEVER`` the
others, each with the reason, ``IMPOSSIBLE`` what refuses none of some verb.  A ``Refusal`` is manifests: to
apply as it begins, to apply or delete as it ends.  ``Api`` asks the server, as the controller would, whether
it has begun.
"""

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import yaml

from tests.faults.harness.ground import ACCOUNT, EXAMPLE
from tests.faults.harness.stand import LEASE, USER

VERBS = ("create", "update of status", "delete", "patch")
KINDS = ("rpcservices", "services", "pods", "leases", "events")
HOWS = ("403 by RBAC", "quota", "admission policy", "webhook down", "webhook slow")

NEVER: Mapping[tuple[str, str], str] = {
    ("create", "pods"): "the controller makes no pods",
    ("delete", "pods"): "the controller deletes no pods",
    ("update of status", "pods"): "a pod's status is its kubelet's",
    ("update of status", "services"): "a Service's status is its load balancer's",
    ("update of status", "leases"): "a Lease has no status",
    ("delete", "leases"): "who stops gives the Lease back, and leaves it there",
    ("update of status", "events"): "an Event has no status",
    ("delete", "events"): "the API server deletes Events, after an hour",
    ("patch", "events"): "an Event is written once: its name is a hash of what it says",
}
IMPOSSIBLE: Mapping[tuple[str, str, str], str] = {
    **{
        (verb, kind, "quota"): "a quota counts objects as they are made"
        for verb in VERBS
        for kind in KINDS
        if verb != "create"
    },
    ("create", "events", "quota"): "Kubernetes counts no Events for a quota",
}

Manifest = Mapping[str, Any]
TENANT = ("rpcregistry-services", "rpcregistry-localservices")  # ClusterRoles, for each namespace served
ROLE, QUOTA, NOT_THAT_ONE = "rpcregistry-writes", "few", "not-that-one"
READS = ("get", "list", "watch")
RPC, CORE = "rpcregistry.dev/v1alpha1", "v1"
PATIENCE = 2.0  # seconds in which a server answers that does not wait for a webhook


class Api:
    """The API server, asked by the controller's user for what changes nothing."""

    def __init__(self, server: str, ca_file: Path, token: str) -> None:
        self._server = server
        self._token = token  # of somebody who may impersonate
        context = ssl.create_default_context(cafile=str(ca_file))
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))

    def try_to(self, method: str, path: str, body: Manifest | None = None) -> bool:
        """Whether a request would be granted, by a dry run; not, if the server takes long."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Impersonate-User": USER, "Content-Type": kind}
        try:
            self._ask(
                Request(
                    f"{self._server}{path}?dryRun=All",
                    json.dumps(body or {}).encode(),
                    headers,
                    method=method,
                )
            )
        except OSError:  # an HTTPError is one
            return False
        return True

    def get(self, path: str) -> dict[str, Any]:
        """An object, as the administrator reads it."""
        return dict(json.loads(self._ask(Request(f"{self._server}{path}"))))

    def _ask(self, request: Request) -> bytes:
        request.add_header("Authorization", f"Bearer {self._token}")
        with self._opener.open(request, timeout=PATIENCE) as answer:
            return bytes(answer.read())


class Write(NamedTuple):
    """A write that the controller makes, as RBAC names it, with the *resource*'s group and subresource.

    *only*: what tells it from other writes of its operation, in CEL.  *attempt* tries to make one in a
    namespace whose objects are called as ``tenant`` calls them.
    """

    group: str
    resource: str
    verb: str
    attempt: Callable[[Api, str], bool]
    only: str = "true"

    @property
    def operation(self) -> str:
        """As admission names it: it does not tell a patch from a PUT."""
        return {"create": "CREATE", "delete": "DELETE"}.get(self.verb, "UPDATE")

    @property
    def audited(self) -> str:
        """The resource as ``evidence.Request`` has it."""
        plural, slash, subresource = self.resource.partition("/")
        return f"{plural}.{self.group}{slash}{subresource}" if self.group else self.resource


def path(namespace: str, plural: str, *rest: str) -> str:
    """The URL of objects of one of the family's kinds."""
    group = {
        "rpcservices": f"apis/{RPC}",
        "leases": "apis/coordination.k8s.io/v1",
        "events": "apis/events.k8s.io/v1",
    }.get(plural, "api/v1")
    return "/" + "/".join([group, "namespaces", namespace, plural, *rest])


def main(namespace: str) -> str:
    """The service that most pods of a namespace serve; its RpcService is called like it."""
    return namespace


def old(namespace: str) -> str:
    """The service that nobody serves after the change."""
    return f"{namespace}.old"


def new(namespace: str) -> str:
    """The service that nobody serves before it."""
    return f"{namespace}.new"


def kept(namespace: str) -> str:
    """The node that is there all the time; its Service is ``app-`` and its name."""
    return f"{namespace}-a"


KEPT_POD = "kept"  # runs on that node


def _create_rpcservice(api: Api, namespace: str) -> bool:
    manifest = {"apiVersion": RPC, "kind": "RpcService", "metadata": {"name": "attempt"}, "spec": {}}
    return api.try_to("POST", path(namespace, "rpcservices"), manifest)


def _replace_status(api: Api, namespace: str) -> bool:
    found = api.get(path(namespace, "rpcservices", main(namespace)))
    changed = {**found, "status": {**found["status"], "endpoints": []}}
    return api.try_to("PUT", path(namespace, "rpcservices", main(namespace), "status"), changed)


def _create_service(api: Api, namespace: str) -> bool:
    return api.try_to(
        "POST",
        path(namespace, "services"),
        {"metadata": {"name": "attempt"}, "spec": {"ports": [{"port": 1}]}},
    )


def _create_lease(api: Api, namespace: str) -> bool:
    return api.try_to("POST", path(namespace, "leases"), {"metadata": {"name": "attempt"}, "spec": {}})


def _create_event(api: Api, namespace: str) -> bool:
    manifest = {
        "metadata": {"name": "attempt", "namespace": namespace},
        "eventTime": "2026-11-30T00:00:00.000000Z",
        "type": "Normal",
        "reason": "Attempt",
        "action": "Attempt",
        "reportingController": "attempt",
        "reportingInstance": "attempt",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": KEPT_POD},
    }
    return api.try_to("POST", path(namespace, "events"), manifest)


def _patch(plural: str, name: Callable[[str], str], *subresource: str) -> Callable[[Api, str], bool]:
    return lambda api, namespace: api.try_to(
        "PATCH", path(namespace, plural, name(namespace), *subresource), {}
    )


def _delete(plural: str, name: Callable[[str], str]) -> Callable[[Api, str], bool]:
    return lambda api, namespace: api.try_to("DELETE", path(namespace, plural, name(namespace)))


def _kept_service(namespace: str) -> str:
    return f"app-{kept(namespace)}"


# The status holds rows, which the pod controller replaces, and conditions, which the registry's patches.
SAME_ROWS = (
    "(has(object.status.endpoints) ? object.status.endpoints : []) =="
    " (has(oldObject.status) && has(oldObject.status.endpoints) ? oldObject.status.endpoints : [])"
)
OWN = "rpcregistry.dev"
WRITES: Mapping[tuple[str, str], Write] = {
    ("create", "rpcservices"): Write(OWN, "rpcservices", "create", _create_rpcservice),
    ("update of status", "rpcservices"): Write(
        OWN, "rpcservices/status", "update", _replace_status, f"!({SAME_ROWS})"
    ),
    ("delete", "rpcservices"): Write(OWN, "rpcservices", "delete", _delete("rpcservices", old)),
    ("patch", "rpcservices"): Write(
        OWN, "rpcservices/status", "patch", _patch("rpcservices", main, "status"), SAME_ROWS
    ),
    ("create", "services"): Write("", "services", "create", _create_service),
    ("delete", "services"): Write("", "services", "delete", _delete("services", _kept_service)),
    ("patch", "services"): Write("", "services", "patch", _patch("services", _kept_service)),
    ("patch", "pods"): Write("", "pods", "patch", _patch("pods", lambda _: KEPT_POD)),
    ("create", "leases"): Write("coordination.k8s.io", "leases", "create", _create_lease),
    ("patch", "leases"): Write("coordination.k8s.io", "leases", "patch", _patch("leases", lambda _: LEASE)),
    ("create", "events"): Write("events.k8s.io", "events", "create", _create_event),
}


def rules(*roles: str, kind: str = "ClusterRole") -> list[Manifest]:
    """The rules of some of the example's roles."""
    found = [item for item in yaml.safe_load_all(EXAMPLE.read_text()) if item["kind"] == kind]
    return [rule for item in found if item["metadata"]["name"] in roles for rule in item["rules"]]


def without(all_rules: Sequence[Manifest], write: Write) -> list[Manifest]:
    """The rules, less the right to one write."""

    def grants(rule: Manifest) -> bool:
        there = write.group in rule["apiGroups"] and write.resource in rule["resources"]
        return there and write.verb in rule["verbs"]

    assert any(map(grants, all_rules)), f"nobody may {write.verb} {write.audited}"
    less = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != write.verb]} if grants(rule) else rule
        for rule in all_rules
    ]
    return [rule for rule in less if rule["verbs"]]


def role(name: str, all_rules: Sequence[Manifest], namespace: str = "") -> list[Manifest]:
    """A role of the controller's, in one namespace or (``""``) in all, and what binds it."""
    prefix, scope = ("", {"namespace": namespace}) if namespace else ("Cluster", {})
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "namespace": ACCOUNT[0], "name": ACCOUNT[1]}
    reference = {"apiGroup": group, "kind": f"{prefix}Role", "name": name}
    meta = {"apiVersion": f"{group}/v1", "metadata": {"name": name, **scope}}
    return [
        {**meta, "kind": f"{prefix}Role", "rules": all_rules},
        {**meta, "kind": f"{prefix}RoleBinding", "roleRef": reference, "subjects": [subject]},
    ]


class Refusal(NamedTuple):
    """A write that is refused in one namespace, in one of ``HOWS``.

    *role* and *rules* grant it there.  A quota allows none: what is deleted meanwhile makes no room.
    *nobody* and *hangs*: ports of loopback on which nobody listens, and on which somebody never answers.
    """

    write: Write
    how: str
    namespace: str
    role: str
    rules: Sequence[Manifest]
    nobody: int
    hangs: int

    @property
    def name(self) -> str:
        """Of what belongs to no namespace."""
        return f"{NOT_THAT_ONE}.{self.namespace}"

    def begins(self) -> list[Manifest]:
        """What to apply."""
        match self.how:
            case "403 by RBAC":
                return role(self.role, without(self.rules, self.write), self.namespace)
            case "quota":
                group = f".{self.write.group}" if self.write.group else ""
                hard = {f"count/{self.write.resource}{group}": "0"}
                meta = {"name": QUOTA, "namespace": self.namespace}
                return [
                    {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
                ]
            case "admission policy":
                return self._policy()
            case "webhook down":
                return [self._webhook(self.nobody)]
            case "webhook slow":
                return [self._webhook(self.hangs)]
        raise AssertionError(self.how)

    def restores(self) -> list[Manifest]:
        """What to apply as it ends; what it began with is deleted, where this is empty."""
        return role(self.role, self.rules, self.namespace) if self.how == "403 by RBAC" else []

    def _matched(self) -> Manifest:
        rule = {
            "apiGroups": [self.write.group],
            "apiVersions": ["*"],
            "operations": [self.write.operation],
            "resources": [self.write.resource],
        }
        selector = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        return {"rule": rule, "namespaceSelector": selector}

    def _conditions(self) -> list[Manifest]:
        return [
            {"name": "the-controller", "expression": f"request.userInfo.username == '{USER}'"},
            {"name": "the-write", "expression": self.write.only},
        ]

    def _policy(self) -> list[Manifest]:
        matched = self._matched()
        constraints = {
            "resourceRules": [matched["rule"]],
            "namespaceSelector": matched["namespaceSelector"],
        }
        validation = {"expression": "false", "message": NOT_THAT_ONE}
        meta = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": self.name}}
        spec = {
            "matchConstraints": constraints,
            "matchConditions": self._conditions(),
            "validations": [validation],
        }
        binding = {"policyName": self.name, "validationActions": ["Deny"]}
        return [
            {**meta, "kind": "ValidatingAdmissionPolicy", "spec": spec},
            {**meta, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
        ]

    def _webhook(self, port: int) -> Manifest:
        matched = self._matched()
        webhook = {
            "name": f"{NOT_THAT_ONE}.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{port}/"},
            "rules": [matched["rule"]],
            "namespaceSelector": matched["namespaceSelector"],
            "matchConditions": self._conditions(),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": self.name},
            "webhooks": [webhook],
        }
