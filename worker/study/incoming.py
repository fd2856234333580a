"""A folder of DICOM files as the studies it holds."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError


class NoDicomError(Exception):
    """A folder holds no DICOM file. Trying again can't help: name another folder."""


@dataclass(frozen=True, slots=True)
class FolderStudy:
    """One study of a folder."""

    study_instance_uid: str
    modalities: tuple[str, ...]
    files: tuple[Path, ...]


def read_studies(folder: Path) -> list[FolderStudy]:
    """Find the studies below `folder`; files that aren't DICOM are passed over. Raises NoDicomError."""
    if not folder.is_dir():
        raise NoDicomError(f"{folder} is not a folder; name a folder of DICOM files")
    files: defaultdict[str, list[Path]] = defaultdict(list)
    modalities: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            header = dcmread(path, specific_tags=["StudyInstanceUID", "Modality"], stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if uid := header.get("StudyInstanceUID"):
            files[uid].append(path)
            modalities[uid].add(str(header.get("Modality", "")))
    if not files:
        raise NoDicomError(f"{folder} holds no DICOM file; name a folder with the files of one MR study")
    return [FolderStudy(uid, tuple(sorted(modalities[uid])), tuple(paths)) for uid, paths in files.items()]
