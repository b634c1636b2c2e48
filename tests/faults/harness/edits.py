"""What others may write into a status: anything that its schema accepts, decided by a seed.

Rows and fields that it requires stay; all else is dropped, replaced, doubled, or made up.
"""

import random
import string
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.world import World
from tests.faults.harness.ground import CRDS

Schema = Mapping[str, Any]
WHERE = ("rpcregistry.dev", "v1alpha1")
OF_OTHERS = "10.250"  # the network of addresses that are no pod's


def status_schema() -> Schema:
    """That of an RpcService's status."""
    crd = yaml.safe_load((CRDS / "rpcservice.yaml").read_text())
    whole = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(whole["properties"]["status"])


def edited(value: Any, schema: Schema, choose: random.Random, much: float = 0.3) -> Any:
    """*value* as somebody may have left it; *much* of what it consists of is changed.

    >>> fields = {"a": {"type": "boolean"}, "b": {"type": "integer"}}
    >>> schema = {"type": "object", "required": ["a"], "properties": fields}
    >>> found = [edited({"a": True, "b": 1}, schema, random.Random(seed)) for seed in range(30)]
    >>> {"a": True} in found, {"a": True, "b": 1} in found, all("a" in value for value in found)
    (True, True, True)
    """
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = schema.get("required", ())
            kept = {}
            for name, part in schema["properties"].items():
                if name in (value or {}):
                    if name in required or choose.random() >= much / 2:
                        kept[name] = edited(value[name], part, choose, much)
                elif choose.random() < much / 4:
                    kept[name] = made_up(part, choose)
            return kept
        case "array":
            items = [
                edited(item, schema["items"], choose, much)
                for item in value or []
                if choose.random() >= much / 3
            ]
            return [*items, *(made_up(schema["items"], choose) for _ in range(choose.random() < much))]
        case _:
            return made_up(schema, choose) if choose.random() < much / 3 else value


def made_up(schema: Schema, choose: random.Random) -> Any:
    """Something that the schema accepts."""
    if "enum" in schema:
        return choose.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            required = schema.get("required", ())
            return {
                name: made_up(part, choose)
                for name, part in properties.items()
                if name in required or choose.random() < 0.5
            }
        case "array":
            return [made_up(schema["items"], choose) for _ in range(choose.randint(0, 2))]
        case "integer":
            return choose.randint(schema.get("minimum", 0), schema.get("maximum", 100))
        case "boolean":
            return choose.random() < 0.5
        case _ if schema.get("format") == "date-time":
            return "2026-11-21T02:02:02Z"
        case _ if "pattern" not in schema and choose.random() < 0.5:
            return f"{OF_OTHERS}.{choose.randint(0, 250)}.{choose.randint(1, 250)}"
        case _:
            return "".join(choose.choices(string.ascii_letters, k=8))


class Edits:
    """Edits statuses in *namespaces*, from ``with`` to its end; *made* is what the server accepted."""

    def __init__(self, world: World, namespaces: tuple[str, ...], seed: int, rate: float = 1.0) -> None:
        self.made: list[tuple[str, Mapping[str, Any]]] = []
        self._world = world
        self._namespaces = namespaces
        self._choose = random.Random(seed)
        self._pause = 1 / rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Edits":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        schema = status_schema()
        while not self._over.wait(self._pause):
            try:
                for namespace, found in self._some():
                    status = edited(found.get("status", {}), schema, self._choose)
                    self._write(namespace, found, status)
            except (ApiException, HTTPError, OSError):
                continue  # refused, or away

    def _some(self) -> Iterator[tuple[str, dict[str, Any]]]:
        namespace = self._choose.choice(self._namespaces)
        services = self._world.rpcservices(namespace)
        if services:
            yield namespace, services[self._choose.choice(sorted(services))]

    def _write(self, namespace: str, found: dict[str, Any], status: Mapping[str, Any]) -> None:
        name = found["metadata"]["name"]
        self._world.custom.replace_namespaced_custom_object_status(
            *WHERE, namespace, "rpcservices", name, {**found, "status": status}
        )
        self.made.append((f"{namespace}/{name}", status))
