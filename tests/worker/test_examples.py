"""The examples of `--help`: each command has one, it is shown whole, and it is understood."""

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from worker.cli import app
from worker.commands.examples import EXAMPLES

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # it is a group


def test_each_command_has_an_example_of_its_own():
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, lines in EXAMPLES.items():
        assert lines
        assert all(shlex.split(line)[:2] == ["gliograde", name] for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_shown_on_a_line_of_its_own(name):
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert {line.strip() for line in shown.output.splitlines()} >= set(EXAMPLES[name])


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_each_example_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.dcm").touch()  # `show` wants its file to be there
    name, *arguments = shlex.split(line.partition(" > ")[0])[1:]
    command = COMMANDS[name]
    if inner := getattr(command, "commands", None):
        name, *arguments = arguments
        command = inner[name]
    command.make_context(name, arguments)


def test_an_example_with_an_option_that_there_is_not_would_be_found():
    with pytest.raises(Exception, match="No such option: --sate"):
        COMMANDS["status"].make_context("status", ["--sate", "held"])
