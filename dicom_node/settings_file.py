"""The TOML file of the settings, read strictly: what it says is followed, or refused."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsError


def read_settings_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Read the settings of a file that was asked for.

    Raises SettingsError where it can't be read, or names a setting that is not among the known: a limit or a
    retention that was misspelt would else be none at all.
    """
    path = path.expanduser()
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"{path}, which GLIOGRADE_SETTINGS names, can't be read: {error.strerror}"
        ) from error
    except ValueError as error:
        # of bytes that are no text the error says which, and they may be of a secret
        words = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it isn't text"
        raise SettingsError(f"{path} isn't TOML: {words}") from error
    if unknown := ", ".join(sorted(found.keys() - set(known))):
        raise SettingsError(f"{path} names what is no setting: {unknown}; docs/settings.md lists them all")
    return found
