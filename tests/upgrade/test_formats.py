"""Readers ignore what a newer version adds and do without what an older one left out; no type changes."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.manifests import LOCALSERVICES, RPCSERVICES
from rpcregistry.plan import heartbeat
from rpcregistry.plan.ledger import decode_ledger
from tests.faults.harness.ground import TOP
from tests.upgrade.recorded import Recorded
from tests.upgrade.test_crds import fields, schema
from tests.upgrade.versions import RECORDED

STATES = [Recorded.load(file) for file in sorted(RECORDED.glob("*/state.json"))]
DECODERS = {
    "heartbeat": heartbeat.decode,
    "ledger": decode_ledger,
    "rpcservices": RPCSERVICES.decode,
    "localservices": LOCALSERVICES.decode,
}
UNDER = {"heartbeat": "/rpcregistry/heartbeat/", "ledger": "/rpcregistry/owned/"}
MAPS = ("metadata", "selector", "nodeSelector", "serviceLabels", "serviceAnnotations")
ADDED = {"addedLater": {"by": ["a newer version"]}}
REQUIRED = {  # what the schema asks for, of old and new versions alike
    path.rpartition(".")[2]
    for kind in ("rpcservice", "localservice")
    for path, _, required in fields(schema(TOP, kind))
    if required
}


def documents(format_: str) -> list[dict[str, Any]]:
    """All recorded JSON documents of a format, of every version."""
    if prefix := UNDER.get(format_):
        texts = [data for state in STATES for path, data in state.znodes.items() if path.startswith(prefix)]
    else:
        found = (state.etcd.items() for state in STATES)
        texts = [data for items in found for key, data in items if f"/rpcregistry.dev/{format_}/" in key]
    return [json.loads(text) for text in texts if text]


def inner(found: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in *found* that has fields, which labels and annotations have not."""
    if isinstance(found, dict):
        yield found
    children = found.items() if isinstance(found, dict) else enumerate(found)
    for key, child in children:
        if isinstance(child, dict | list) and key not in MAPS:
            yield from inner(child)


@pytest.mark.parametrize("format_", DECODERS)
def test_there_are_documents_to_read(format_: str):
    assert documents(format_)


@pytest.mark.parametrize("format_", DECODERS)
@given(data=st.data())
def test_what_a_newer_version_adds_changes_nothing(format_: str, data: st.DataObject):
    document = data.draw(st.sampled_from(documents(format_)))
    changed = copy.deepcopy(document)
    data.draw(st.sampled_from(list(inner(changed)))).update(ADDED)
    decode = DECODERS[format_]
    assert decode(json.dumps(changed).encode()) == decode(json.dumps(document).encode())


@pytest.mark.parametrize("format_", DECODERS)
@given(data=st.data())
def test_what_an_older_version_left_out_is_done_without(format_: str, data: st.DataObject):
    document = copy.deepcopy(data.draw(st.sampled_from(documents(format_))))
    holder = data.draw(st.sampled_from(list(inner(document.get("status", document)))))
    optional = sorted(holder.keys() - REQUIRED)
    for name in data.draw(st.lists(st.sampled_from(optional), unique=True)) if optional else ():
        del holder[name]
    found = DECODERS[format_](json.dumps(document).encode())
    assert found is not None
