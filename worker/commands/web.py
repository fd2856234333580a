"""`gliograde web` serves the page, `gliograde user` keeps its accounts."""

import sys
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import select

from dicom_node.installation import open_installation
from worker.commands.ledger import note_decision, open_ledger
from worker.commands.terminal import console
from worker.records.database import WebUser
from worker.records.schema import check_schema
from worker.records.user_role import SessionKind, UserRole
from worker.running.services import open_database, open_engine
from worker.settings import Settings
from worker.study.decisions import own_name
from worker.web.address import is_exposed, open_socket, url_of
from worker.web.logins import open_session
from worker.web.users import UserError, add_user, disable_user, enable_user, find_user, set_password, set_role

users = typer.Typer(help="Accounts of the web page.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(metavar="NAME", help="Name that the user logs in with.")]


def web() -> None:
    """Serve the web page until Ctrl-C, where the settings `web_address` and `web_port` say."""
    from worker.web.server import serve  # noqa: PLC0415 - FastAPI only where it serves

    settings = Settings()
    open_installation(settings.data_folder)
    if is_exposed(settings):
        sys.stderr.write(
            "gliograde: WARNING: passwords and patients' data pass the network in the clear; "
            "set web_certificate and web_key, or web_proxies\n"
        )
    with (
        suppress(KeyboardInterrupt),
        open_socket(settings) as listener,
        open_database(settings) as complete,
        open_engine(complete) as engine,
    ):
        check_schema(engine)
        console.print(f"ready: the web page is {url_of(settings)}", soft_wrap=True)
        serve(engine, complete, listener)


@users.command("add")
def add(
    name: UserName,
    role: Annotated[UserRole, typer.Option(help="What the user may do.")] = UserRole.VIEWER,
) -> None:
    """Make an account. The password is asked for, or read from standard input."""
    password = _ask_password()
    with open_ledger() as session:
        add_user(session, name, password, role)
        session.commit()
    _note("web account made", name)
    console.print(f"user {name} is {role.value}", soft_wrap=True, markup=False)


@users.command("list")
def list_users() -> None:
    """Show the accounts."""
    table = Table("name", "role", "since (UTC)", "disabled (UTC)")
    with open_ledger() as session:
        for user in session.scalars(select(WebUser).order_by(WebUser.name)):
            disabled = "" if user.disabled_at is None else f"{user.disabled_at:%Y-%m-%d %H:%M}"
            table.add_row(user.name, user.role, f"{user.created_at:%Y-%m-%d %H:%M}", disabled)
    console.print(table, markup=False)


@users.command("disable")
def disable(name: UserName) -> None:
    """Let a user in no more, and end the user's logins and tokens now."""
    with open_ledger() as session:
        disable_user(session, find_user(session, name))
        session.commit()
    _note("web account disabled", name)


@users.command("enable")
def enable(name: UserName) -> None:
    """Let a disabled user in again."""
    with open_ledger() as session:
        enable_user(session, find_user(session, name))
        session.commit()
    _note("web account enabled", name)


@users.command("password")
def password(name: UserName) -> None:
    """Give a user another password, asked for or read from standard input; ends logins and tokens."""
    new = _ask_password()
    with open_ledger() as session:
        set_password(session, find_user(session, name), new)
        session.commit()
    _note("web password changed", name)


@users.command("role")
def role(
    name: UserName,
    role: Annotated[UserRole, typer.Option(help="What the user may do from now on.")],
) -> None:
    """Let a user do more or less than before; ends the user's logins and tokens now."""
    with open_ledger() as session:
        set_role(session, find_user(session, name), role)
        session.commit()
    _note(f"web account is now {role.value}", name)
    console.print(f"user {name} is {role.value}", soft_wrap=True, markup=False)


@users.command("token")
def token(
    name: UserName,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it is good for.")] = 90,
) -> None:
    """Print a new bearer token for /api/v1. It is shown once and kept nowhere."""
    with open_ledger() as session:
        user = find_user(session, name)
        if user.disabled_at is not None:
            raise UserError(f"user {name} is disabled")
        made = open_session(session, user.id, SessionKind.BEARER, timedelta(days=days))
        session.commit()
    _note("web token made", name)
    sys.stdout.write(f"{made}\n")


def _ask_password() -> str:
    """Ask for a new password twice; from a pipe, take its first line."""
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    return sys.stdin.readline().rstrip("\r\n")


def _note(detail: str, name: str) -> None:
    note_decision(f"{detail}: {name}", own_name(), "")
