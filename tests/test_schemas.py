"""The schemas of annotations' entries: our quick look at them, beside jsonschema's."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcregistry.dialects import app_io, rpc_service
from rpcregistry.dialects.entries import Repeated
from rpcregistry.dialects.schemas import Schema

SCHEMAS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": schema
    for module in (rpc_service, app_io)
    for name, schema in vars(module).items()
    if isinstance(schema, Schema)
}

TEXTS = st.sampled_from(
    ["", "a", "echo", "zookeeper", "a/b", "x" * 256, "x" * 257, "ü" * 129, "a\nb", "\ud800"]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70_000),
    st.sampled_from([0, 1, 65535, 65536, 10_000, 10_001, 1.0, 80.5, 1e300, Repeated("a")]),
    TEXTS,
)
KEYS = st.sampled_from(
    [
        "serviceName",
        "port",
        "version",
        "group",
        "protocol",
        "weight",
        "metadata",
        "local",
        "k",
        "v",
        "x",
        "\0",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.one_of(KEYS, TEXTS), inner)),
    max_leaves=12,
)
LARGE = st.integers(30, 34).map(lambda size: {f"k{number}": "v" for number in range(size)})
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "serviceName": TEXTS,
        "port": SCALARS,
        "version": SCALARS,
        "weight": SCALARS,
        "metadata": st.one_of(LARGE, st.dictionaries(TEXTS, SCALARS)),
        "local": SCALARS,
        "k": SCALARS,
        "v": VALUES,
    },
)


def test_there_are_schemas():
    assert len(SCHEMAS) == 5


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@given(value=st.one_of(VALUES, ENTRIES, LARGE))
def test_a_value_is_valid_where_jsonschema_finds_no_mistake(schema: Schema, value: Any):
    assert schema.holds(value) == (next(schema.errors(value), None) is None)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_is_one(schema: Schema):
    schema.validator.check_schema(schema.schema)


def test_a_controller_starts_without_what_it_may_never_use():
    """rich and structlog.dev's tracebacks, jsonschema, the Kubernetes client, and what these bring."""
    code = """
import sys
from rpcregistry.__main__ import main
sys.argv = ["rpcregistry", "run", "--help"]
try:
    main()
except SystemExit:
    pass
import rpcregistry.run.process, rpcregistry.run.localservices, rpcregistry.sdk
print("here:", *({"rich", "pygments", "jsonschema", "referencing", "kubernetes"} & set(sys.modules)))
import rich
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["here:"]
