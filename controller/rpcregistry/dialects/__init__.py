"""What a pod's annotations declare, and how to write that.

A *dialect* is one way of writing "this pod serves that service" on a pod: a label that says that the
pod speaks it, and an annotation that is, or hides, a JSON array with one entry a service.  A pod may
speak several at once.  To add a dialect, write one file here with a schema, a function from an entry to a
``Declaration`` and one back, and list it in ``DIALECTS``.

What is read is written by strangers.  A bad entry costs that entry, a bad text costs what the text
declares, and each becomes a ``Problem`` that says what is wrong and where.
"""

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from rpcregistry.dialects.app_io import APP_IO
from rpcregistry.dialects.entries import Dialect, Invalid, cut, parse, shown
from rpcregistry.dialects.rpc_service import RPC_SERVICE
from rpcregistry.model import Declaration, Problem

__all__ = ["APP_IO", "DIALECTS", "RPC_SERVICE", "Dialect", "read", "write"]

DIALECTS = (RPC_SERVICE, APP_IO)

REASON = "InvalidAnnotation"
LONGEST_TEXT = 16 * 1024  # bytes of JSON
LONGEST_ANNOTATION = 2 * LONGEST_TEXT  # characters: base64 with line breaks takes less
SHORT = 512  # characters
MOST_ENTRIES = 32
LONGEST_MESSAGE = 900  # characters: an Event's note holds 1,000


def read(
    labels: Mapping[str, str], annotations: Mapping[str, str]
) -> tuple[tuple[Declaration, ...], tuple[Problem, ...]]:
    """The declarations of a pod with these labels and annotations, and the mistakes in them.

    >>> text = '[{"serviceName": "a", "port": 80}, {"serviceName": "b", "port": 70000}]'
    >>> declarations, problems = read({"rpc-service": "true"}, {"rpc-service": text})
    >>> [(declaration.service_name, declaration.port) for declaration in declarations]
    [('a', 80)]
    >>> [problem.message for problem in problems]
    ['rpc-service: /1/port: 70000 is greater than the maximum of 65535']
    """
    declarations: dict[tuple[str, int | None], Declaration] = {}
    problems: list[Problem] = []
    for dialect in DIALECTS:
        label, value = dialect.label
        if labels.get(label) != value or dialect.annotation not in annotations:
            continue
        for index, found in enumerate(_read(dialect, annotations[dialect.annotation])):
            if isinstance(found, str):
                problems.append(_problem(dialect, found))
            elif (found.service_name, found.port) in declarations:
                port = "without a port" if found.port is None else f"at port {found.port}"
                problems.append(
                    _problem(dialect, f"/{index}: {found.service_name} {port} is declared already")
                )
            else:
                declarations[found.service_name, found.port] = found
    return tuple(declarations.values()), tuple(problems)


def write(
    dialect: Dialect,
    annotation: str | None,
    declarations: Iterable[Declaration],
    without: Container[tuple[str, int | None]] = (),
) -> str | None:
    """The annotation with an entry for each of *declarations*, after those that are there; None if empty.

    The entries of the services and ports in *without* are left out; all others stay as they are, to the
    byte, even those that cannot be read.  Raises ``ValueError`` where the annotation is no array.

    >>> text = write(RPC_SERVICE, '[{"serviceName": "a"}, 7]', [Declaration(service_name="b", port=80)])
    >>> text
    '[{"serviceName": "a"},7,{"serviceName":"b","port":80}]'
    >>> write(RPC_SERVICE, text, (), without={("b", 80), ("a", None)}), write(RPC_SERVICE, None, ())
    ('[7]', None)
    """
    try:
        text = dialect.decode(annotation) if annotation else "[]"
        entries = msgspec.json.decode(text, type=list[msgspec.Raw])
    except ValueError as error:
        raise ValueError(f"{dialect.annotation}: {error}") from error
    entries = [raw for raw in entries if _service_and_port(dialect, raw) not in without]
    entries += [msgspec.Raw(msgspec.json.encode(dialect.entry(declared))) for declared in declarations]
    return dialect.encode(msgspec.json.encode(entries).decode()) if entries else None


def _service_and_port(dialect: Dialect, raw: msgspec.Raw) -> tuple[str, int | None] | None:
    try:
        declared = dialect.declaration(parse(bytes(raw).decode()))
    except (ValueError, RecursionError):
        return None
    return declared.service_name, declared.port


def _problem(dialect: Dialect, what: str) -> Problem:
    return Problem(REASON, cut(f"{dialect.annotation}: {what}", LONGEST_MESSAGE))


def _read(dialect: Dialect, annotation: str) -> tuple[Declaration | str, ...]:
    """For each entry its declaration or its mistakes; or one text if the whole annotation is wrong."""
    if len(annotation) > LONGEST_ANNOTATION:
        return (_too_long(annotation),)
    return (_read_short if len(annotation) <= SHORT else _read_long)(dialect, annotation)


def _read_text(dialect: Dialect, annotation: str) -> tuple[Declaration | str, ...]:
    try:
        text = dialect.decode(annotation)
    except ValueError as error:
        return (str(error),)
    if _size(text) > LONGEST_TEXT:
        return (_too_long(text),)
    return _read_json(dialect, text)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _too_long(text: str) -> str:
    return f"{_size(text)} bytes are more than the maximum of {LONGEST_TEXT}"


def _read_json(dialect: Dialect, text: str) -> tuple[Declaration | str, ...]:
    try:
        entries = parse(text)
        if not isinstance(entries, list):
            return (f"{shown(entries)} is not an array",)
        if len(entries) > MOST_ENTRIES:
            return (f"{len(entries)} entries are more than the maximum of {MOST_ENTRIES}",)
        return tuple(_read_entry(dialect, index, entry) for index, entry in enumerate(entries))
    except RecursionError:
        return ("nested too deeply",)
    except ValueError as error:
        return (f"not JSON: {error}",)


# Pods of one Deployment share their annotation, and a pod's stays as it is while its status changes.  A text
# is remembered with what it says, so there are fewer long ones than short ones.
_read_short = lru_cache(maxsize=8192)(_read_text)
_read_long = lru_cache(maxsize=1024)(_read_text)


def _read_entry(dialect: Dialect, index: int, entry: Any) -> Declaration | str:
    try:
        return dialect.declaration(entry)
    except Invalid as invalid:
        return "; ".join(f"/{index}{pointer}: {what}" for pointer, what in invalid.mistakes.items())
