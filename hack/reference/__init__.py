"""The pages of ``docs/reference`` that are made from the program.  A module a page, each with ``page()``."""

from collections.abc import Callable, Mapping

from hack.reference import commands, http, kinds, metrics, znodes

PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "http.md": http.page,
    "kinds.md": kinds.page,
    "metrics.md": metrics.page,
    "znodes.md": znodes.page,
}
