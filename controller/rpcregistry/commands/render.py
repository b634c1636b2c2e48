"""``rpcregistry render``: shows offline what manifests publish, and what in them leads to nothing."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from rpcregistry.errors import Misconfigured
from rpcregistry.layouts import Layout
from rpcregistry.manifests import made
from rpcregistry.model import Problem
from rpcregistry.plan.mistakes import Mistake, mistakes
from rpcregistry.plan.offline import Manifest, Rendered, objects_of, problems_of, render
from rpcregistry.telemetry.logging import printable


class _Said(msgspec.Struct, frozen=True):
    """What is wrong, and what may be: *problems* by the pod that has them."""

    problems: Sequence[tuple[str, Problem]]
    warnings: Sequence[Mistake]


def render_files(files: Sequence[str], layouts: Sequence[Layout], *, output: str, strict: bool) -> int:
    """Print what *files* publish, as ``yaml`` or ``json``.

    Return 1 if an annotation is wrong, or a layout refuses a service, or *strict* and there is a warning;
    else 0.
    """
    manifests = [manifest for file in files for manifest in _read(file)]
    try:
        found = objects_of(manifests)
        said = _Said(list(problems_of(found.pods)), mistakes(manifests, found))
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise Misconfigured(f"{', '.join(files)}: cannot read a manifest: {error}") from error
    rendered = render(found, layouts)
    if output == "json":
        encoded = msgspec.json.encode(_as_object(rendered, said))
        sys.stdout.write(msgspec.json.format(encoded).decode() + "\n")
    else:
        documents = [*map(made.whole_rpcservice, rendered.services), *rendered.node_services]
        yaml.safe_dump_all(
            [_plain(document) for document in (*documents, {"znodes": rendered.znodes})],
            sys.stdout,
            sort_keys=False,
            explicit_start=True,
            width=1_000_000,
            allow_unicode=True,
        )
    sys.stdout.flush()
    sys.stderr.writelines(f"{printable(line)}\n" for line in _lines(rendered, said))
    wrong = said.problems or rendered.refusals or (strict and said.warnings)
    return 1 if wrong else 0


def _lines(rendered: Rendered, said: _Said) -> Iterator[str]:
    for pod, problem in said.problems:
        yield f"{pod}: {problem.reason}: {problem.message}"
    for refused in rendered.refusals:
        yield f"{refused.service}: {refused.reason} in layout {refused.layout}: {refused.message}"
    for warning in said.warnings:
        yield f"warning: {warning.about}{': ' if warning.about else ''}{warning.message}"


def _as_object(rendered: Rendered, said: _Said) -> dict[str, Any]:
    return {
        "rpcServices": [made.whole_rpcservice(service) for service in rendered.services],
        "services": rendered.node_services,
        "znodes": rendered.znodes,
        "refusals": rendered.refusals,
        "problems": [
            {"pod": pod, "reason": problem.reason, "message": problem.message}
            for pod, problem in said.problems
        ],
        "warnings": said.warnings,
    }


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value


def _read(file: str) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Misconfigured(f"{file}: {error}") from error
    for document in documents:
        yield from _flat(document)


def _flat(document: Any) -> Iterator[Manifest]:
    match document:
        case {"items": [*items]}:
            for item in items:
                yield from _flat(item)
        case {"kind": str()}:
            yield document
