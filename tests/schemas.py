"""Objects that a CRD's schema accepts, whatever they say: strategies for hypothesis."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

CRDS = Path(__file__).parents[1] / "crds"
Schema = Mapping[str, Any]
MOST_ITEMS = 3
LIMITS = {"int32": 2**31 - 1, "int64": 2**63 - 1}


@cache
def root(kind: str) -> Schema:
    """The schema of the only version of *kind*."""
    (version,) = yaml.safe_load((CRDS / f"{kind}.yaml").read_text())["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def accepted(schema: Schema) -> st.SearchStrategy[Any]:
    """What *schema* accepts, its rules in CEL aside."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(1, 65535) | st.text(max_size=63)
    match schema["type"]:
        case "object":
            return _objects(schema)
        case "array":
            least, most = schema.get("minItems", 0), min(schema.get("maxItems", MOST_ITEMS), MOST_ITEMS)
            return st.lists(accepted(schema["items"]), min_size=least, max_size=max(least, most))
        case "string":
            return _texts(schema)
        case "integer":
            limit = LIMITS[schema["format"]]
            return st.integers(schema.get("minimum", -limit), schema.get("maximum", limit))
        case "boolean":
            return st.booleans()
    raise NotImplementedError(schema["type"])


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        values = accepted(schema["additionalProperties"])
        return st.dictionaries(st.text(max_size=20), values, max_size=MOST_ITEMS)
    properties = {name: accepted(child) for name, child in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: value for name, value in properties.items() if name in required},
        optional={name: value for name, value in properties.items() if name not in required},
    )


def _texts(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if "pattern" in schema:
        most = schema.get("maxLength", 64)
        pattern: str = schema["pattern"]
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= most)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 20), 20))


def objects(kind: str) -> st.SearchStrategy[Any]:
    """Whole objects of *kind*, as the API server would give them."""
    metadata = st.just({"name": "echo", "namespace": "default", "uid": "u", "resourceVersion": "7"})
    parts = {name: accepted(root(kind)["properties"][name]) for name in ("spec", "status")}
    return st.fixed_dictionaries(
        {"metadata": metadata, "spec": parts["spec"]}, optional={"status": parts["status"]}
    )
