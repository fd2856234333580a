"""`gliograde peers`: whether those that we send to and ask can be reached."""

import typer

from worker.answers.tables import findings_page
from worker.commands.doctor import examine_peers, is_well
from worker.commands.terminal import console
from worker.running.in_force import settings_in_force

app = typer.Typer(help="Look at destinations and sources.", no_args_is_help=True)


@app.callback()
def peers() -> None:
    """Keep `test` a word of its own: typer would fold a single command into its group."""


@app.command()
def test() -> None:
    """C-ECHO every destination and every source of the settings. Exit 1: one doesn't answer."""
    findings = examine_peers(settings_in_force())
    console.print(findings_page(findings), soft_wrap=True)
    raise typer.Exit(0 if is_well(findings) else 1)
