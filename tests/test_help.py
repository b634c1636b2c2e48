"""What ``--help`` prints: examples, exit codes, flags and their variables."""

import re

import click
import pytest

from rpcregistry.cli import main, run_command
from tests.commandline import parsed


@pytest.mark.parametrize("command", main.commands)
def test_each_command_has_help(command: str, capfd: pytest.CaptureFixture[str]):
    assert run_command([command, "--help"]) == 0
    assert f"Usage: rpcregistry {command}" in capfd.readouterr().out


def test_the_list_of_commands_cuts_no_line(capfd: pytest.CaptureFixture[str]):
    assert run_command(["--help"]) == 0
    shown = capfd.readouterr().out
    assert all(re.search(rf"^  {command} +\S.*[^.]\.$", shown, re.MULTILINE) for command in main.commands)


@pytest.mark.parametrize("command", main.commands)
def test_the_help_of_a_command_has_examples_that_it_accepts(command: str, capfd: pytest.CaptureFixture[str]):
    assert run_command([command, "--help"]) == 0
    section = capfd.readouterr().out.partition("\nExamples:\n")[2].partition("\n\n")[0]
    assert section
    for example in section.splitlines():
        words = example.rpartition("| ")[2].split()
        assert words[:2] == ["rpcregistry", command]
        parsed(*words[1:])


@pytest.mark.parametrize("command", main.commands)
def test_the_help_of_a_command_has_each_exit_code(command: str, capfd: pytest.CaptureFixture[str]):
    assert run_command([command, "--help"]) == 0
    section = capfd.readouterr().out.partition("\nExit codes:\n")[2]
    assert re.findall(r"^  (\d)  \S", section, re.MULTILINE) == ["0", "1", "2"]


@pytest.mark.parametrize("command", main.commands)
def test_each_option_of_a_command_has_a_text(command: str):
    options = [
        parameter for parameter in main.commands[command].params if isinstance(parameter, click.Option)
    ]
    assert [option.name for option in options if not option.help and not option.hidden] == []


@pytest.mark.parametrize("command", ["run", "verify", "render", "release", "purge"])
def test_the_help_of_a_command_names_the_variables(command: str, capfd: pytest.CaptureFixture[str]):
    assert run_command([command, "--help"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert f"RPCREGISTRY_{'LAYOUT' if command == 'render' else 'KUBECONFIG'}]" in shown


def test_each_option_of_run_is_in_its_help_but_those_of_kube2zk(capfd: pytest.CaptureFixture[str]):
    run_command(["run", "--help"])
    shown = capfd.readouterr().out
    hidden = [name for name in parsed("run") if f"--{name.removesuffix('s').replace('_', '-')}" not in shown]

    assert hidden == ["zkpath"]
