"""What the controller answers by HTTP: probes and metrics, the page's paths, and each field of its JSON."""

import asyncio
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec

from hack.reference.markdown import MADE, table
from rpcregistry.page import app
from rpcregistry.plan.screens import changes, known, one, others, services, state

RULES = """\
## The page's JSON

On `--ui-bind-address` (`127.0.0.1:8081`), for those who [may look](../page.md#who-may-look).

- Fields are added, never renamed or removed.
- Times are Unix seconds, those of Kubernetes RFC 3339; durations end in `Ms`.
- Every answer has an `ETag`, and `If-None-Match` is answered with 304. Only `GET` and `HEAD` are answered.
- Errors are `application/problem+json` (RFC 9457): 400 names an unknown query key, 404 the closest names.
- `q` finds a part of a service's, namespace's, pod's or node's name, and the beginning of an address.
- `after` is the number of rows to leave out.
"""
PROBES = """\
## Probes and metrics

On `--bind-address` (`:8080`):

| path | answer |
| --- | --- |
| `/healthz` | 200, or 503 with the reason: it fails only for what a restart would mend |
| `/readyz` | 200, or 503 with the reason |
| `/metrics` | [the metrics](metrics.md), in Prometheus' text format |
"""
WORDS = {str: "text", int: "number", float: "number", bool: "true or false"}


class Route(NamedTuple):
    """What a path answers with, and which query it takes."""

    answer: Any
    query: Mapping[str, app.Read] = {}


class RejectedPods(msgspec.Struct):
    """How many *pods* there are, and what is wrong with some."""

    pods: int
    rejected: Sequence[others.Rejected]


class Changes(msgspec.Struct):
    """The newest first: the last 2,000 since the process began.  *next*: for ``after``."""

    total: int
    changes: Sequence[changes.Said]
    next: int | None


class Setting(msgspec.Struct):
    """A flag, its *value*, and its *origin*: flag, environment or default."""

    flag: str
    value: str
    origin: str


ROUTES: Mapping[str, Route] = {
    "/api/state": Route(state.State),
    "/api/services": Route(services.Page, app.LIST),
    "/api/services/{name:path}": Route(one.One, app.ONE),
    "/api/localservices": Route(Mapping[str, Sequence[others.LocalRow]]),
    "/api/localservices/{namespace}/{name}": Route(others.LocalOne),
    "/api/rejected": Route(RejectedPods),
    "/api/changes": Route(Changes, app.CHANGES),
    "/api/stream": Route(
        "server-sent events: `changed`, at most twice a second, says only that it is time to look"
    ),
}


def page() -> str:
    """The page."""
    structs: dict[type[msgspec.Struct], None] = {}
    rows = [
        [_path(path), _query(route.query), _type(route.answer, structs)] for path, route in ROUTES.items()
    ]
    tables = []
    for struct in _all(structs):
        fields = table(["field", "type"], _fields(struct, structs))
        tables.append(f"### {struct.__name__}\n\n{_said(struct)}\n\n{fields}")
    return "\n".join([
        f"# HTTP\n\n{MADE}",
        PROBES,
        RULES,
        table(["path", "query", "answer"], rows),
        "## Answers\n",
        *tables,
    ])  # fmt: skip


def served() -> list[str]:
    """The paths below ``/api`` that the application answers."""
    door: Any = app.make_app(_nobody(), (), _nobody(), _nobody(), asyncio.Event())
    return [route.path for route in door._inside.routes if route.path.startswith("/api/")]


def _nobody() -> Any:
    return None


def _path(path: str) -> str:
    return "`" + re.sub(r"{(\w+)(:path)?}", lambda found: found[1].upper(), path[1:]) + "`"


def _query(keys: Mapping[str, app.Read]) -> str:
    return ", ".join(_key(name, read) for name, read in keys.items())


def _key(name: str, read: app.Read) -> str:
    match read:
        case partial(args=[int(most)]):
            return f"`{name}` (up to {most:,})" if name == "limit" else f"`{name}`"
        case partial(args=[tuple(choices)]):
            return f"`{name}` ({', '.join(f'`{choice}`' for choice in choices)})"
        case _:
            return f"`{name}`"


def _all(structs: dict[type[msgspec.Struct], None]) -> Iterator[type[msgspec.Struct]]:
    """The structs, also those that are found as the fields of others are written."""
    done = 0
    while done < len(structs):
        yield list(structs)[done]
        done += 1


def _fields(
    struct: type[msgspec.Struct], structs: dict[type[msgspec.Struct], None]
) -> Iterator[Sequence[str]]:
    for field in msgspec.structs.fields(struct):
        yield [f"`{field.encode_name}`", _type(field.type, structs)]


def _type(of: Any, structs: dict[type[msgspec.Struct], None]) -> str:
    """A type in words; *structs* gets those that it names."""
    name = partial(_type, structs=structs)
    if of is known.Setting:
        of = Setting
    if isinstance(of, str):
        return of
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        structs.setdefault(of)
        return f"[{of.__name__}](#{of.__name__.lower()})"
    arguments = get_args(of)
    if get_origin(of) in (types.UnionType, Union):
        return f"{name(arguments[0])} or null"
    if not arguments:
        return WORDS[of]
    if arguments[0] is str and len(arguments) == 2 and issubclass(get_origin(of), Mapping):
        return f"{name(arguments[1])} by name"
    if issubclass(get_origin(of), tuple) and arguments[-1] is not Ellipsis:
        return f"[{', '.join(map(name, arguments))}]"
    return f"list of {name(arguments[0])}"


def _said(struct: type[msgspec.Struct]) -> str:
    """The docstring, with names as JSON has them and constants spelt out."""
    text = " ".join(inspect.cleandoc(struct.__doc__ or "").split()).replace("None", "null")
    text = text.replace('""', "empty")
    names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    text = re.sub(r"\*(\w+)\*", lambda found: f"`{names.get(found[1], found[1])}`", text)
    constants = vars(sys.modules[struct.__module__])

    def spelt(found: re.Match[str]) -> str:
        value = constants.get(found[1])
        return ", ".join(f"`{each}`" for each in value) if isinstance(value, tuple) else f"`{found[1]}`"

    return re.sub(r"``([^`]+)``", spelt, text)
