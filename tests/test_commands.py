"""How commands print, help and complete."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
import yaml

from rpcregistry.cli import complete, main, run_command
from rpcregistry.commands import printing
from rpcregistry.commands.get import printed
from rpcregistry.commands.progress import Progress
from rpcregistry.plan.explain import Hop, Seen
from rpcregistry.plan.overview import rows
from rpcregistry.usage import GROUPS
from tests.builders import row, rpcservice
from tests.worlds import Clock

ROOT = Path(__file__).parents[1]
LONG = "x" * 300


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_nothing_is_cut_or_coloured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = [Hop(seen=Seen.WRONG, what="pods", why=LONG, details=(LONG,), next=LONG)]
    text = printing.hops(found, io.StringIO()) + printing.table(["A"], [[LONG]], io.StringIO())
    assert (text.count(LONG), "\x1b" in text) == (4, False)


def test_on_a_terminal_it_is_coloured_unless_somebody_objects(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found = [Hop(seen=Seen.WRONG, what="pods", why="why")]
    assert "\x1b[31m✗" in printing.hops(found, Terminal())
    assert "\x1b[31mFalse" in printing.table(["A"], [["False"]], Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printing.hops(found, Terminal()) + printing.table(["A"], [["False"]], Terminal())


def test_what_others_wrote_obeys_no_terminal():
    found = [Hop(seen=Seen.WRONG, what="a\x1b[2J", why="b\n\u202e", details=("\x07",), next="\x1b")]
    text = printing.hops(found, io.StringIO()) + printing.table(["A"], [["\x1b[31m"]], io.StringIO())
    assert not {"\x1b", "\x07", "\u202e"} & {*text}


def test_a_long_look_is_a_line_on_a_terminal_which_goes_at_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        progress("reading pods …")
    printed = sys.stderr.getvalue()
    assert "reading pods …" in printed
    assert printed.endswith("\x1b[2K")  # the line is erased


def test_off_a_terminal_a_long_look_has_a_line_in_five_seconds(capsys: pytest.CaptureFixture[str]):
    clock = Clock()
    with Progress(clock.monotonic) as progress:
        for seconds, what in ((1, "a"), (5, "b"), (1, "c"), (5, "d")):
            clock.sleep(seconds)
            progress(what)
    assert capsys.readouterr() == ("", "rpcregistry: b\nrpcregistry: d\n")


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_each_output_of_get(output: str):
    text = printed(rows([rpcservice("echo", row(1)), rpcservice("cart")]), output)
    match output:
        case "json":
            assert [one["service"] for one in json.loads(text)["services"]] == ["cart", "echo"]
        case "yaml":
            assert yaml.safe_load(text)["services"][1]["objects"] == ["default/echo"]
        case "name":
            assert text == "cart\necho\n"
        case _:
            header, *lines = text.splitlines()
            assert header.split()[:5] == ["SERVICE", "NAMESPACE", "READY", "SYNCED", "REASON"]
            assert lines[1].split()[:5] == ["echo", "default", "1/0", "Unknown", "NotLookedAt"]
            assert ("ORIGIN" in header) == (output == "wide")


def test_the_help_of_run_has_its_flags_in_groups_with_variables(capfd: pytest.CaptureFixture[str]):
    assert run_command(["run", "--help"]) == 0
    shown = capfd.readouterr().out
    titles = [line.rstrip(":") for line in shown.splitlines() if line.rstrip(":") in GROUPS]
    assert titles == list(GROUPS)
    known = {name for names in GROUPS.values() for name in names}
    options = {param.name for param in main.commands["run"].params if isinstance(param, click.Option)}
    assert options - known == {"zkpath"}, "which is kube2zk's, and hidden"
    assert "RPCREGISTRY_GENERATED_LABELS" in shown
    assert shown.count("efault: ") + shown.count("[default: ") <= shown.count("env var: ") + 8


def test_the_commands_are_in_the_order_in_which_people_need_them(capfd: pytest.CaptureFixture[str]):
    run_command(["--help"])
    section = capfd.readouterr().out.partition("Commands:\n")[2]
    names = [line.split()[0] for line in section.splitlines() if line.startswith("  ") and line[2] != " "]
    assert names[:3] == ["run", "status", "get"]
    assert set(names) == set(main.commands)


def test_kubectls_plugin_is_the_same_program_under_its_own_name(capfd: pytest.CaptureFixture[str]):
    assert run_command(["status", "--help"], "kubectl rpcregistry") == 0
    assert capfd.readouterr().out.startswith("Usage: kubectl rpcregistry status ")
    scripts = (ROOT / "pyproject.toml").read_text()
    assert 'kubectl-rpcregistry = "rpcregistry.__main__:main"' in scripts
    assert 'kubectl_complete-rpcregistry = "rpcregistry.__main__:complete"' in scripts


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capfd: pytest.CaptureFixture[str]):
    assert run_command(["completion", shell]) == 0
    assert "_RPCREGISTRY_COMPLETE" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["rel"], ["release"]),
        (["get", "--st"], ["--state"]),
        (["get", "--state", "h"], ["held"]),
        (["render", "--layout", "du"], ["dubbo=/"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_commands_flags_and_values_are_completed(words: Sequence[str], found: list[str]):
    assert complete(words) == "".join(f"{name}\n" for name in found) + ":4\n"


def test_a_cluster_that_does_not_answer_completes_nothing_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert complete(["explain", "e"]) == ":4\n"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team", "write it KEY=VALUE"),
        ("a b=c", "write it KEY=VALUE"),
        ("app.kubernetes.io/managed-by=me", "a label of the controller's own"),
        ("rpcregistry.dev/part-of=x", "a label of the controller's own"),
    ],
)
def test_a_label_that_cannot_be_is_refused_before_anything_is_connected(
    text: str, said: str, capfd: pytest.CaptureFixture[str]
):
    assert run_command(["run", "--generated-labels", text]) == 2
    assert said in capfd.readouterr().err


def test_once_is_for_a_dry_run(capfd: pytest.CaptureFixture[str]):
    assert run_command(["run", "--once"]) == 2
    assert "--once is for --dry-run" in capfd.readouterr().err


def test_a_layout_without_a_path_or_of_ones_own_is_told_what_to_write(capfd: pytest.CaptureFixture[str]):
    for text, said in (
        ("dubbo=", "write dubbo=/dubbo"),
        ("dubbo=/", "write dubbo=/dubbo"),
        ("nerve=/nerve", "--template nerve=FILE"),
        ("dubbo=/a,curator=/b", "one layout each"),
    ):
        assert run_command(["render", "--layout", text, "x.yaml"]) == 2
        assert said in capfd.readouterr().err


def test_variables_are_read_by_each_command_that_has_the_flag(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RPCREGISTRY_LAYOUT", "dubbo=/a curator=/b")
    context = main.commands["render"].make_context("render", ["x.yaml"])
    assert context.params["layouts"] == ("dubbo=/a", "curator=/b")
