"""What a pod's metadata says that nobody reads: likely typing errors.

They break nothing, so they are no mistakes as ``dialects.read`` finds them: other programs may read them.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice

from rpcregistry.dialects import DIALECTS, LONGEST_TEXT
from rpcregistry.dialects.entries import MOST_MISTAKES, Dialect, parse, shown
from rpcregistry.model import Problem

IGNORED = "IgnoredAnnotation"
LONGEST_KEY = 64  # characters; nobody types a longer one by mistake


def hints(labels: Mapping[str, str], annotations: Mapping[str, str]) -> tuple[Problem, ...]:
    """The hints about a pod with these labels and annotations, for an Event each.

    >>> [hint.message for hint in hints({"rpc-service": "yes"}, {"rpc-service": "[]"})]
    ['annotation rpc-service is ignored: label rpc-service is "yes", not "true"']
    """
    found: list[str] = []
    for dialect in DIALECTS:
        label, value = dialect.label
        declares = labels.get(label) == value
        if dialect.annotation in annotations and not declares:
            is_ = f"is {shown(labels[label])}, not" if label in labels else "is missing: set it to"
            found.append(f'annotation {dialect.annotation} is ignored: label {label} {is_} "{value}"')
        elif declares and dialect.annotation not in annotations:
            found += map(_instead(dialect).format, near(dialect.annotation, annotations))
        elif declares:
            found += (
                f"annotation {dialect.annotation}: {pointer}: {key} is ignored: did you mean {meant}?"
                for pointer, key, meant in unknown_keys(dialect, annotations[dialect.annotation])
                if meant
            )
    return tuple(Problem(IGNORED, message) for message in found)


def _instead(dialect: Dialect) -> str:
    return f"annotation {{}} is ignored: did you mean {dialect.annotation}?"


def near(wanted: str, names: Mapping[str, str]) -> list[str]:
    """The one of *names* that is most like *wanted*, if one is."""
    return get_close_matches(wanted, [name for name in names if len(name) <= LONGEST_KEY], 1, 0.8)


@lru_cache(maxsize=1024)  # the pods of a Deployment share their annotation's text
def unknown_keys(dialect: Dialect, annotation: str) -> tuple[tuple[str, str, str], ...]:
    """The first keys of entries that nobody reads: JSON pointer, key, and the known key that is like it."""
    return tuple(islice(_unknown_keys(dialect, annotation), MOST_MISTAKES))


def _unknown_keys(dialect: Dialect, annotation: str) -> Iterator[tuple[str, str, str]]:
    if not dialect.keys or len(annotation) > LONGEST_TEXT:
        return
    try:
        entries = parse(dialect.decode(annotation))
    except (ValueError, RecursionError):
        return
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        for key in entry if isinstance(entry, dict) else ():
            if key not in dialect.keys:
                like = get_close_matches(key, dialect.keys, 1, 0.7) if len(key) <= LONGEST_KEY else []
                yield f"/{index}", shown(key), like[0] if like else ""
