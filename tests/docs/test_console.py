"""Each console block of README and docs does what it shows, on the playground, page by page."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster.waiting import eventually
from tests.docs.shell import LOOKS, agrees, typed
from tests.pages import Page, Step, pages

ELSEWHERE = Path(__file__).with_name("elsewhere.txt")
READ = [path for path in pages() if re.match(r"README|docs/|examples/README|deploy/", path)]
TO_SHOW = 60.0  # seconds
STANDS_FOR = {"SERVICE": "test-rpc-server-1", "$URL": "$RPCREGISTRY_URL"}  # what readers put in


def left_out() -> dict[str, str]:
    """What is not run, and why."""
    lines = [line for line in ELSEWHERE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(re.split(r": +", line, maxsplit=1) for line in lines)


def steps(path: str) -> Iterator[Step | tuple[str, str]]:
    """The steps that are run of a page, and the files among them: name and text."""
    skipped = left_out()
    if path in skipped:
        return
    for block in Page(path).blocks:
        if block.file:
            yield block.file, block.text
        elif block.heading not in skipped:
            yield from (step for step in block.steps if f"$ {step.command}" not in skipped)


def runs(path: str) -> bool:
    return any(isinstance(step, Step) for step in steps(path))


@pytest.mark.full
@pytest.mark.parametrize("path", [path for path in READ if runs(path)])
def test_the_console_blocks_of_a_page_do_what_they_show(
    path: str, folder: Path, environment: Mapping[str, str]
):
    for step in steps(path):
        if isinstance(step, Step):
            does(step, folder, environment)
        else:
            (folder / step[0]).write_text(step[1])


def does(step: Step, folder: Path, environment: Mapping[str, str]) -> None:
    """Type a command; fail unless it shows what the page says, a look within a minute."""
    command = step.command
    for name, ours in STANDS_FOR.items():
        command = command.replace(name, ours)
    last = ""

    def shows() -> bool:
        nonlocal last
        code, shown = typed(f". .local/env\n{command}", environment, folder)
        last = f"exit code {code}:\n{shown}"
        return code == step.code and (not step.output or agrees(step.output, shown))

    try:
        eventually(shows, timeout=TO_SHOW if LOOKS.match(step.command) else 0)
    except AssertionError:
        pytest.fail(f"$ {step.command}\n{last}\n--- the page says:\n{step.output}", pytrace=False)


def test_each_line_of_what_is_not_run_is_about_something():
    blocks = [block for path in READ for block in Page(path).blocks if block.steps]
    known = (
        {*READ}
        | {block.heading for block in blocks}
        | {f"$ {step.command}" for block in blocks for step in block.steps}
    )
    assert left_out().keys() - known == set()
