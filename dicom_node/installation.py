"""The data folder, which receiver and workers share: what it is, and which format it has."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID, generate_uid

DATA_FOLDER_FORMAT = 1


class DataFolderError(Exception):
    """The data folder can't be used. Trying again can't help: the message says what to change."""


@dataclass(frozen=True, slots=True)
class Installation:
    """This node as a device: one UID for the life of its data folder."""

    device_uid: UID


def open_installation(data_folder: Path) -> Installation:
    """Read the data folder's marker, making it in a new folder.

    Raises DataFolderError for another format, and where this user may not make or use the folder.
    """
    try:
        return _open(data_folder)
    except OSError as error:
        raise DataFolderError(
            f"the data folder can't be used: {data_folder}: {error.strerror}; "
            "is this the service's user, and the folder its own?"
        ) from error


def _open(data_folder: Path) -> Installation:
    marker = data_folder / "gliograde.json"
    if not marker.exists():
        data_folder.mkdir(parents=True, exist_ok=True)
        has_more = any(_is_foreign(path) for path in data_folder.iterdir())
        # another process that starts now may have made it since
        if has_more and not marker.exists():
            raise DataFolderError(
                f"{data_folder} isn't empty and isn't a gliograde data folder; name another folder"
            )
        text = json.dumps({"format": DATA_FOLDER_FORMAT, "device_uid": generate_uid(prefix=None)})
        # an exclusive link makes the first of two starting processes win with a whole file
        part = marker.with_name(f".{uuid.uuid4()}.part")
        part.write_text(text)
        try:
            marker.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    try:
        content = json.loads(marker.read_text())
        found, device_uid = content["format"], content["device_uid"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(f"{marker} can't be read; restore it from a backup") from error
    if found != DATA_FOLDER_FORMAT:
        raise DataFolderError(
            f"{data_folder} has format {found}, this gliograde reads format {DATA_FOLDER_FORMAT}: "
            "use the gliograde version that made it, or name another folder"
        )
    return Installation(UID(device_uid))


def _is_foreign(path: Path) -> bool:
    """Neither another process's beginning of a marker, nor what ext4 puts at the top of each volume."""
    return path.suffix != ".part" and path.name != "lost+found"
