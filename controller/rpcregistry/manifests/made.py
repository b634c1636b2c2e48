"""Nouns to Kubernetes JSON: what we write, one function a kind.

Each returns what goes into a request's body, as plain dicts and lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from rpcregistry.manifests import EVENTS, GROUP, LEASES, LOCALSERVICES, RPCSERVICES, SERVICES, ApiType
from rpcregistry.model import (
    GENERATED_LABELS,
    LOCAL_SERVICE,
    MANAGED_BY,
    NODE,
    NODE_NAME,
    PART_OF,
    SERVICE_NAME,
    SPEC_KEYS,
    Condition,
    Lease,
    LocalService,
    LocalServiceSpec,
    LocalServiceStatus,
    ObjectKey,
    Owner,
    Pod,
    Problem,
    Regarding,
    RpcService,
    RpcServiceStatus,
)
from rpcregistry.names import label_value, node_service_name

ACCESS_REVIEWS = ApiType("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
SELF_REVIEWS = ApiType("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview")


class AsRead(Protocol):
    """An object as it was read."""

    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


def as_read(found: AsRead) -> dict[str, str]:
    """Metadata that has a write fail unless the object is still as it was read."""
    return {"uid": found.uid, "resourceVersion": found.resource_version}


def annotated(annotations: Mapping[str, str | None]) -> dict[str, Any]:
    """A merge patch of annotations; None takes one away."""
    return {"metadata": {"annotations": annotations}}


# RpcServices


def rpcservice(
    namespace: str,
    name: str,
    service_name: str,
    head: RpcService | None = None,
    labels: Mapping[str, str] = {},
) -> dict[str, Any]:
    """A generated RpcService, or a part of *head*; *labels* besides ours."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, **_labelled(labels)}
    if head:
        metadata["labels"][PART_OF] = label_value(head.name)
        metadata["ownerReferences"] = [_owner(RPCSERVICES, head.key, head.uid)]
    return {**_type(RPCSERVICES), "metadata": metadata, "spec": {"serviceName": service_name}}


def _labelled(labels: Mapping[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {**labels, **dict([MANAGED_BY])}}
    return {**metadata, "annotations": {GENERATED_LABELS: label_keys(labels)}} if labels else metadata


def label_keys(labels: Mapping[str, str]) -> str:
    """Which labels of a generated object we put on it, so that they go with the flag."""
    return ",".join(sorted(labels))


def rpcservice_status(service: RpcService, status: RpcServiceStatus) -> dict[str, Any]:
    """What replaces the status of *service* as it was read, and nothing else of it; fails otherwise.

    A merge patch would do, too: it costs the API server more, which then has to make out what it changes.
    """
    metadata = {"namespace": service.namespace, "name": service.name, **as_read(service)}
    return {**_type(RPCSERVICES), "metadata": metadata, "status": _plain(status)}


def rpcservice_conditions(service: RpcService, conditions: Sequence[Condition]) -> dict[str, Any]:
    """A merge patch of the conditions of *service*, as it was read."""
    return {"metadata": as_read(service), "status": {"conditions": _plain(conditions)}}


def whole_rpcservice(service: RpcService) -> dict[str, Any]:
    """An RpcService with its spec and status, but for what only a server knows."""
    status = _plain(service.status)
    for condition in status["conditions"]:
        del condition["lastTransitionTime"]
        condition.pop("observedGeneration", None)
    metadata = {"name": service.name, "namespace": service.namespace}
    return {**_type(RPCSERVICES), "metadata": metadata, "spec": _plain(service.spec), "status": status}


# LocalServices, their node Services, and pods


def localservice(
    namespace: str, name: str, service_name: str, spec: LocalServiceSpec, labels: Mapping[str, str] = {}
) -> dict[str, Any]:
    """A LocalService that pods ask for; *labels* besides ours."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, **_labelled(labels)}
    metadata["annotations"] = {SERVICE_NAME: service_name, **metadata.get("annotations", {})}
    return {**_type(LOCALSERVICES), "metadata": metadata, "spec": _plain(spec)}


def localservice_spec(local: LocalService, spec: LocalServiceSpec) -> dict[str, Any]:
    """A merge patch after which the spec of *local*, as it was read, is *spec*."""
    selector = {**dict.fromkeys(local.spec.selector), **spec.selector}
    return {"metadata": as_read(local), "spec": {**_plain(spec), "selector": selector}}


def localservice_status(local: LocalService, status: LocalServiceStatus) -> dict[str, Any]:
    """A merge patch of the status of *local*, as it was read."""
    return {"metadata": as_read(local), "status": _plain(status)}


def node_service(local: LocalService, node_name: str, node_label: str) -> dict[str, Any]:
    """The Service of a LocalService for one node; None stands for a field that must not be set."""
    labels = {"owner": local.name, LOCAL_SERVICE: local.name, NODE: label_value(node_name)}
    annotations = {NODE_NAME: node_name}
    if local.spec.service_labels or local.spec.service_annotations:
        annotations[SPEC_KEYS] = spec_keys(local.spec)
    metadata = {
        "name": node_service_name(local.name, node_name),
        "namespace": local.namespace,
        "labels": {**local.spec.service_labels, **dict([MANAGED_BY]), **labels},
        "annotations": {**local.spec.service_annotations, **annotations},
        "ownerReferences": [_owner(LOCALSERVICES, local.key, local.uid)],
    }
    return {
        **_type(SERVICES),
        "metadata": metadata,
        "spec": _node_service_spec(local.spec, node_label, node_name),
    }


def spec_keys(spec: LocalServiceSpec) -> str:
    """Which labels and annotations of a node Service come from *spec*, so that they go with it."""
    keys = {"labels": sorted(spec.service_labels), "annotations": sorted(spec.service_annotations)}
    return msgspec.json.encode({kind: found for kind, found in keys.items() if found}).decode()


def _node_service_spec(spec: LocalServiceSpec, node_label: str, node_name: str) -> dict[str, Any]:
    """All fields that a LocalService can have: a removed one gets its default again."""
    sticky = spec.session_affinity == "ClientIP"
    config = spec.session_affinity_config and spec.session_affinity_config.client_ip
    fields: dict[str, Any] = {
        "type": spec.type,
        "selector": {**spec.selector, node_label: label_value(node_name)},
        "ports": [
            {
                "port": port.port,
                "protocol": port.protocol,
                "targetPort": port.target_port or port.port,
                **({"name": port.name} if port.name else {}),
            }
            for port in spec.ports
        ],
        "sessionAffinity": spec.session_affinity,
        "sessionAffinityConfig": (
            {"clientIP": {"timeoutSeconds": (config and config.timeout_seconds) or 10800}} if sticky else None
        ),
        "publishNotReadyAddresses": spec.publish_not_ready_addresses,
        "internalTrafficPolicy": spec.internal_traffic_policy or "Cluster",
        "externalTrafficPolicy": (
            (spec.external_traffic_policy or "Cluster") if spec.type == "NodePort" else None
        ),
    }
    if spec.cluster_ip:
        fields["clusterIP"] = spec.cluster_ip
    if spec.ip_families:
        fields["ipFamilies"] = list(spec.ip_families)
    if spec.ip_family_policy:
        fields["ipFamilyPolicy"] = spec.ip_family_policy
    return fields


def pod_labels(pod: Pod, labels: Mapping[str, str | None]) -> dict[str, Any]:
    """A merge patch of the labels of *pod*, without a precondition; None removes a label."""
    return {"metadata": {"uid": pod.uid, "labels": labels}}


# what belongs to no controller


def lease(name: str, record: Lease, annotations: Mapping[str, str]) -> dict[str, Any]:
    """A Lease that is to be created."""
    spec = {key: value for key, value in _lease_spec(record).items() if value is not None}
    return {**_type(LEASES), "metadata": {"name": name, "annotations": annotations}, "spec": spec}


def lease_patch(record: Lease | None, annotations: Mapping[str, str | None]) -> dict[str, Any]:
    """A merge patch of *annotations*, and of what a Lease records, if that is unchanged since it was read."""
    metadata: dict[str, Any] = {"annotations": annotations} if annotations else {}
    if record is None:
        return {"metadata": metadata}
    return {
        "metadata": {"resourceVersion": record.resource_version, **metadata},
        "spec": _lease_spec(record),
    }


def _lease_spec(record: Lease) -> dict[str, Any]:
    """What is None has to be absent."""
    return {
        "holderIdentity": record.holder or None,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": record.acquired or None,
        "renewTime": record.renewed or None,
        "leaseTransitions": record.transitions,
    }


def event(
    key: ObjectKey,
    regarding: Regarding,
    problem: Problem,
    *,
    action: str,
    warning: bool,
    time: str,
    instance: str,
) -> dict[str, Any]:
    """The Event *key* about *problem*; *time*: RFC 3339, with microseconds."""
    return {
        **_type(EVENTS),
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": dict([MANAGED_BY])},
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
        "type": "Warning" if warning else "Normal",
        "reason": problem.reason,
        "action": action,
        "note": problem.message,
        "eventTime": time,
        "reportingController": MANAGED_BY[1],
        "reportingInstance": instance,
    }


def access_review(namespace: str, account: str, name: str) -> dict[str, Any]:
    """The question whether a ServiceAccount may register the RpcService *name*."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {
        **_type(ACCESS_REVIEWS),
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": groups,
            "resourceAttributes": {
                "namespace": namespace,
                "verb": "register",
                "group": GROUP,
                "resource": RPCSERVICES.plural,
                "name": name,
            },
        },
    }


def self_review() -> dict[str, Any]:
    """The question who we are."""
    return _type(SELF_REVIEWS)


def _type(kind: ApiType) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind}


def _owner(kind: ApiType, key: ObjectKey, uid: str) -> Any:
    return _plain(
        Owner(
            api_version=kind.api_version,
            kind=kind.kind,
            name=key.name,
            uid=uid,
            controller=True,
            block_owner_deletion=False,
        )
    )


def _plain(value: Any) -> Any:
    """A struct as plain dicts and lists."""
    return msgspec.to_builtins(value)
