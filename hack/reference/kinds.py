"""The kinds: each field of the CRDs' schemas, with its type, bounds and default."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from hack.reference.markdown import MADE, TOP, table

Schema = Mapping[str, Any]
FILES = ("rpcservice.yaml", "localservice.yaml")
BOUNDS = {
    "minimum": "at least {}", "maximum": "at most {}", "minLength": "at least {} characters",
    "maxLength": "at most {} characters", "minItems": "at least {} entries", "maxItems": "at most {} entries",
    "maxProperties": "at most {} keys",
}  # fmt: skip
OBJECT = ("apiVersion", "kind", "metadata")  # of all kinds


def page() -> str:
    """The page."""
    crds = [yaml.safe_load((TOP / "crds" / file).read_text()) for file in FILES]
    return f"# Kinds\n\n{MADE}\n" + "\n".join(map(_kind, crds))


def _kind(crd: Mapping[str, Any]) -> str:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    fields = [row for row in _fields(schema, "") if row[0].strip("`").partition(".")[0] not in OBJECT]
    columns = (
        [
            f"`{column['name'].upper()}`",
            "`-o wide`" if column.get("priority") else "",
            _text(column),
            f"`{column['jsonPath']}`",
        ]
        for column in version["additionalPrinterColumns"]
    )
    short = ", ".join(f"`{name}`" for name in names["shortNames"])
    return "\n".join([
        f"## {names['kind']}\n",
        f"`{crd['spec']['group']}/{version['name']}`; short name {short}. {schema['description']}\n",
        *(f"- {rule}" for rule in _rules(schema)),
        "",
        table(["field", "type", "default", ""], fields),
        "`kubectl get` shows:\n",
        table(["column", "", "", "field"], columns),
    ])  # fmt: skip


def _fields(schema: Schema, prefix: str) -> Iterator[Sequence[str]]:
    """A row for each field below *prefix*, those of nested objects after it."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        inner, suffix = (field["items"], "[]") if field.get("type") == "array" else (field, "")
        required = " (required)" if name in schema.get("required", ()) else ""
        default = f"`{field['default']}`" if field.get("default") not in (None, {}) else ""
        text = " ".join([_text(field), *(f"{rule}." for rule in _rules(field))])
        yield [f"`{path}`", _type(field) + required, default.replace("False", "false"), text]
        yield from _fields(inner, f"{path}{suffix}.")


def _type(field: Schema) -> str:
    match field:
        case {"enum": [*choices]}:
            return " or ".join(f"`{choice}`" for choice in choices)
        case {"type": "array", "items": {"type": inner}}:
            name = f"list of {inner}s"
        case {"type": "object", "additionalProperties": {"type": inner}}:
            name = f"map of {inner}s"
        case _:
            name = field.get("format") or field.get("type", "integer or string")
    bounds = [text.format(field[key]) for key, text in BOUNDS.items() if key in field]
    pattern = [f"`{field['pattern']}`"] if "pattern" in field else []
    return ", ".join([name, *bounds, *pattern])


def _rules(field: Schema) -> Iterator[str]:
    for rule in field.get("x-kubernetes-validations", ()):
        message = rule["message"].strip().rstrip(".")
        yield message[:1].upper() + message[1:]


def _text(field: Schema) -> str:
    return str(field.get("description", "")).strip()
