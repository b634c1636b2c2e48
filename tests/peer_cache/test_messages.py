"""Entries as the proto's messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer_cache import messages
from peer_cache.entries import Cache, Entry, Key, Version
from peer_cache.sync_pb2 import SyncData, SyncRequest

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
types = st.integers(0, 2**31 - 1) | st.sampled_from([0, 1, 2**31 - 1])
versions = st.builds(Version, st.integers(0, 2**63), st.sampled_from(["a", "0f"]))
entries = st.dictionaries(st.builds(Key, types, text), st.builds(Entry, versions, text))

HELD = {
    Key(1, "a"): Entry(Version(7, "f"), "x"),
    Key(1, "b"): Entry(Version(8, "f"), "y"),
    Key(2, "c"): Entry(Version(9, "f"), "z"),
}


@given(entries)
def test_entries_come_through_the_wire_as_they_were(held):
    request = SyncRequest(data=[*messages.values(held), *messages.versions(held)])
    assert messages.parse(SyncRequest.FromString(request.SerializeToString()).data) == ({}, held)


def test_values_are_all_that_a_client_has_to_send():
    assert messages.parse([SyncData(type=3, data={"a": "x"})]) == ({Key(3, "a"): "x"}, {})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([SyncData(type=-1, data={"a": "1-f"})], id="a version of no value"),
        pytest.param(
            [SyncData(type=0, data={"a": "x"}), SyncData(type=-1, data={"a": "new"})], id="no version"
        ),
    ],
)
def test_what_makes_no_sense_is_refused(data):
    with pytest.raises(ValueError, match="version"):
        messages.parse(data)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param(SyncData(type=1), {"a": "x", "b": "y"}, id="a type"),
        pytest.param(SyncData(type=1, data={"b": ""}), {"b": "y"}, id="a key of it"),
        pytest.param(SyncData(type=1, data={"c": ""}), {}, id="a key that only another type has"),
        pytest.param(SyncData(type=5), {}, id="a type that nobody set"),
        pytest.param(SyncData(type=-2, data={"a": ""}), {"a": "7-f"}, id="the version of a key"),
        pytest.param(SyncData(type=-3), {"c": "9-f"}, id="the versions of a type"),
    ],
)
def test_asked_for(asked, answered):
    cache = Cache("0", lambda: 0)
    cache.take(HELD)
    assert [*messages.answer(cache, [asked])] == [SyncData(type=asked.type, data=answered)]
