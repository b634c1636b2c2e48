"""What a page shows of a command's output, with ``…`` for what differs from one time to the next."""

import re


def shows(wanted: str, output: str) -> bool:
    """Whether *output* is what a page shows: ``…`` is any text in a line, and alone in a line any lines.

    How columns are aligned does not count, as it depends on the names in them.

    >>> shows("NAME   AGE\\necho   …\\n", "NAME       AGE\\necho         4s\\n")
    True
    >>> shows("a\\n…\\nd", "a\\nb\\nc\\nd"), shows("…\\n", ""), shows("a…", "b"), shows("a", "a\\n\\n")
    (True, True, False, False)
    """
    pattern = "".join(map(_pattern, _lines(wanted)))
    return bool(re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(output))))


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def _pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*"
    return re.escape(line).replace("…", ".*") + r"\n"
