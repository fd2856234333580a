"""What the commands have in common on a terminal."""

import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

# a log file or a pipe has no width of its own
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="Number of the study, as `status` shows it, or its UID.")
]
DecidedBy = Annotated[str | None, typer.Option("--by", help="Who says so; by default the user's name.")]


def refuse(sentence: str) -> NoReturn:
    """Say what is wrong in one line and end with exit code 2."""
    sys.stderr.write(f"gliograde: {sentence}\n")
    sys.exit(2)
