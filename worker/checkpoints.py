"""Checkpoints that a site brought: each in its own folder below the data folder, one of them in use.

`checkpoints/NAME-VERSION-DIGEST/` is written once and never changed; `checkpoints/in-use.json` names the one
in use and the one before it. Nothing is ever removed, so that a site can go back.
"""

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom_node.durable import sync_folder, write_durably
from model.card import (
    CARD_NAME,
    WEIGHTS_NAME,
    Card,
    CheckpointError,
    default_checkpoint_folder,
    read_card,
    read_weights,
    verify,
)

SHIPPED = "shipped"
_CHOICE_NAME = "in-use.json"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,80}$"


class Choice(BaseModel):
    """What stands in `in-use.json`: names of folders, or `SHIPPED`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_use: str = Field(default=SHIPPED, pattern=_NAME)
    previous: str | None = Field(default=None, pattern=_NAME)


@dataclass(frozen=True, slots=True)
class Installed:
    """One checkpoint that may be used, by the name that `model use` takes."""

    name: str
    folder: Path
    card: Card


def checkpoints_folder(data_folder: Path) -> Path:
    """Where the checkpoints that a site brought lie."""
    return data_folder / "checkpoints"


def chosen_checkpoint(data_folder: Path) -> Path:
    """Give the folder of the checkpoint in use, without opening it. Raises `CheckpointError`."""
    return _folder_of(data_folder, read_choice(data_folder).in_use)


def read_choice(data_folder: Path) -> Choice:
    """Read which checkpoint is in use; the shipped one where nobody chose. Raises `CheckpointError`."""
    path = checkpoints_folder(data_folder) / _CHOICE_NAME
    try:
        return Choice.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Choice()
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{path} can't be read: remove it, and choose again with `gliograde model use`"
        ) from error


def list_checkpoints(data_folder: Path) -> list[Installed]:
    """Give the shipped checkpoint and all that were added, by name. Raises `CheckpointError`."""
    shipped = default_checkpoint_folder()
    folder = checkpoints_folder(data_folder)
    added = sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []
    return [
        Installed(SHIPPED, shipped, read_card(shipped)),
        *(Installed(path.name, path, read_card(path)) for path in added),
    ]


def add_checkpoint(source: Path, data_folder: Path) -> Installed:
    """Copy a checkpoint below the data folder once it was seen to be whole and to compute what its card says.

    What is checked is the copy, which appears under its name only when it has passed. Adding the same again
    changes nothing. Raises `CheckpointError`.
    """
    from model.checkpoint import load_checkpoint  # noqa: PLC0415 - torch only where a network is loaded
    from model.self_test import require_answer  # noqa: PLC0415

    card, weights = read_weights(source)
    name = f"{card.name}-{card.version}-{card.weights_sha256[:12]}"
    folder = checkpoints_folder(data_folder)
    part = folder / f".{uuid.uuid4()}.part"
    part.mkdir(parents=True)
    try:
        content = {CARD_NAME: card.model_dump_json(indent=2).encode() + b"\n", WEIGHTS_NAME: weights}
        for file_name, data in content.items():
            write_durably(part / file_name, part / f"{file_name}.part", [data])
        sync_folder(part)
        checked = load_checkpoint(part)
        require_answer(checked.network, checked.card, source)
        if (folder / name).exists():
            if read_card(folder / name) != card:
                raise CheckpointError(
                    f"{name} is installed with another card: give the changed card another version"
                )
        else:
            part.rename(folder / name)
            sync_folder(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Installed(name, folder / name, card)


def find_checkpoint(name: str, data_folder: Path) -> Installed:
    """Give the checkpoint of this name; raises `CheckpointError` that says which there are."""
    installed = {each.name: each for each in list_checkpoints(data_folder)}
    if name not in installed:
        raise CheckpointError(
            f"there is no checkpoint {name!r}; there are {', '.join(installed)}; "
            "add one with `gliograde model add`"
        )
    return installed[name]


def use_checkpoint(name: str, data_folder: Path) -> Choice:
    """Choose the checkpoint of this name, which is verified first; the one before it stays known.

    Raises `CheckpointError`.
    """
    find_checkpoint(name, data_folder)
    verify(_folder_of(data_folder, name))
    before = read_choice(data_folder)
    if before.in_use == name:
        return before
    choice = Choice(in_use=name, previous=before.in_use)
    folder = checkpoints_folder(data_folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(choice.model_dump()).encode() + b"\n"
    write_durably(folder / _CHOICE_NAME, folder / f".{uuid.uuid4()}.part", [text])
    sync_folder(folder)
    return choice


def _folder_of(data_folder: Path, name: str) -> Path:
    return default_checkpoint_folder() if name == SHIPPED else checkpoints_folder(data_folder) / name
