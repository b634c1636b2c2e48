"""What holds of every schema in ``crds/``, whatever server reads it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

CRDS = Path(__file__).parents[1] / "crds"
Schema = Mapping[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield *schema* and all schemas inside it, each with its path, such as ``.spec.config[]``."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def is_described(path: str, schema: Schema) -> bool:
    """Whether the description is a sentence.  The server has its own for ``metadata``."""
    description = schema.get("description", "")
    return path == ".metadata" or (description.endswith(".") and " " in description)


def is_bounded(path: str, schema: Schema) -> bool:
    """Whether there is a limit to how much a user can put there."""
    match schema:
        case {"enum": _}:
            return True
        case {"type": "string"} | {"x-kubernetes-int-or-string": True}:
            return "maxLength" in schema
        case {"type": "array"}:
            return "maxItems" in schema
        case {"type": "object", "additionalProperties": _}:
            return "maxProperties" in schema
        case {"type": "object"}:
            return path == ".metadata" or "properties" in schema
        case {"type": "integer"}:
            return "format" in schema
        case _:
            return schema.get("type") == "boolean"


def says_how_it_merges(_: str, schema: Schema) -> bool:
    """Whether a list says what a server-side apply by several managers does to it."""
    return schema.get("type") != "array" or "x-kubernetes-list-type" in schema


@pytest.mark.parametrize("holds", [is_described, is_bounded, says_how_it_merges])
@pytest.mark.parametrize("kind", ["rpcservice", "localservice"])
def test_every_field(kind: str, holds: Callable[[str, Schema], bool]) -> None:
    assert [path or "the root" for path, schema in nodes(root(kind)) if not holds(path, schema)] == []


@pytest.mark.parametrize("kind", ["rpcservice", "localservice"])
def test_the_status_has_no_rules_since_they_would_cost_too_much_for_each_of_2000_endpoints(kind: str) -> None:
    status = root(kind)["properties"]["status"]
    assert [path for path, schema in nodes(status) if "x-kubernetes-validations" in schema] == []


def root(kind: str) -> Schema:
    """The schema of the only version of *kind*."""
    (version,) = yaml.safe_load((CRDS / f"{kind}.yaml").read_text())["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema
