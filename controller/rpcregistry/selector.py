"""Label selectors, checked before the API server is asked.

Grammar: kubernetes.io, Labels and Selectors; k8s.io/apimachinery, pkg/labels.  Commas separate requirements,
each ``KEY``, ``!KEY``, ``KEY=VALUE`` (``==``, ``!=``), ``KEY in (A,B)``, ``KEY notin (A,B)``,
``KEY>1`` or ``KEY<1``.
"""

import re
from collections.abc import Iterator

from rpcregistry.names import is_label_name, is_label_value

_WORD = r"[^\s!=<>,()]"
_REQUIREMENT = re.compile(
    rf"""\s*(?:
        !\s*(?P<absent>{_WORD}+)
      | (?P<key>{_WORD}+)\s*(?:
            (?:==?|!=)\s*(?P<value>{_WORD}*)
          | [<>]\s*(?P<number>-?\d+)
          | (?:in|notin)\s*\((?P<values>(?:{_WORD}|[,\s])*)\)
        )?
    )\s*""",
    re.VERBOSE,
)


def label_selector(text: str) -> str:
    """Return *text* if it is a label selector or empty; ``ValueError`` says what is wrong, and where.

    >>> label_selector("app=web,tier in (a, b),!canary")
    'app=web,tier in (a, b),!canary'
    """
    try:
        for match in _requirements(text) if text.strip() else ():
            _check(match)
    except ValueError as error:
        advice = "write it like app=web, tier in (a,b) or !canary, with commas between them"
        raise ValueError(f"{text!r} is no label selector: {error}; {advice}") from error
    return text.strip()


def _requirements(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while match := _REQUIREMENT.match(text, position):
        yield match
        position = match.end()
        if position == len(text):
            return
        if text[position] != ",":
            raise ValueError(f"{text[position:]!r} cannot follow {match[0].strip()!r}")
        position += 1
    rest = text[position:]
    raise ValueError(f"{rest!r} begins with no label" if rest else "nothing follows its last comma")


def _check(match: re.Match[str]) -> None:
    key = match["absent"] or match["key"]
    if not is_label_name(key):
        raise ValueError(f"{key!r} is no label's name")
    values = [match["value"] or ""] if match["values"] is None else match["values"].split(",")
    for value in values:
        if not is_label_value(value.strip()):
            raise ValueError(f"{value.strip()!r} is no label's value")
