"""A field of a CRD never goes, never changes its type, and is never asked for later on."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.faults.harness.ground import TOP
from tests.upgrade.versions import COMMITS, checkout

KINDS = ("rpcservice", "localservice")


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, bool]]:
    """Each field below *schema*: its path, its type, and whether it is required."""
    required = set(schema.get("required", ()))
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child.get("type", "any"), name in required
        yield from fields(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], f"{path}[]")


def schema(folder: Any, kind: str) -> Mapping[str, Any]:
    (version,) = yaml.safe_load((folder / "crds" / f"{kind}.yaml").read_text())["spec"]["versions"]
    found: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", COMMITS)
def test_a_crd_only_gains_fields(version: str, kind: str):
    old = {path: (type_, required) for path, type_, required in fields(schema(checkout(version), kind))}
    new = {path: (type_, required) for path, type_, required in fields(schema(TOP, kind))}
    assert len(old) > 10
    assert {path: new.get(path, ("gone", False))[0] for path in old} == {
        path: type_ for path, (type_, _) in old.items()
    }
    asked = {path for path, (_, required) in new.items() if required}
    parents = {path.rpartition(".")[0] for path in old}
    assert {path for path in asked - old.keys() if path.rpartition(".")[0] in parents} == set()
    assert not {path for path in asked & old.keys() if not old[path][1]}
