"""BraTS 2018–2021 as it lies on disk → patients with their grade, source and files.

Grades are those of the collections, glioblastoma (HGG) against lower grade (LGG, WHO 2 and 3), and no
histology. They come from a table, else from folders named HGG and LGG, else from `name_mapping.csv`.
BraTS 2021 tells no grade: it needs a table, or a mapping that knows its names.
"""

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from model.cohorts.brats_names import (
    CohortError,
    LabelTableError,
    NameMapping,
    parse_grade,
    read_mapping,
    read_rows,
    source_of,
)
from model.grade import Contrast, Grade
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE
from model.space.preprocess import Prepared, prepare_in_space
from model.space.quality import PreprocessingError
from model.space.stack import Stack
from model.space.volume import Volume, load_volume

CONTRAST_WORDS = {
    "flair": Contrast.FLAIR,
    "t2f": Contrast.FLAIR,
    "t1ce": Contrast.T1CE,
    "t1c": Contrast.T1CE,
    "t1gd": Contrast.T1CE,
    "t2": Contrast.T2,
    "t2w": Contrast.T2,
}
"""How file names end, before .nii or .nii.gz."""

SEGMENTATION_WORDS = frozenset({"seg", "segm"})
TUMOUR_LABELS = (1, 2, 3, 4)
ENHANCING_LABELS = (3, 4)
"""4 until BraTS 2021, 3 since; no year uses both."""

NO_TUMOUR_FOLDER = "NONE"
"""Patients without a tumour lie below a folder of this name, beside HGG and LGG; they have no grade."""

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)
_NAMED_AT_MOST = 12

Mask = npt.NDArray[np.bool_]


class NoPatientsError(CohortError):
    """A folder without any patient."""


class SequenceMissingError(CohortError):
    """A patient's folder without one of the three sequences."""


class VolumeError(CohortError):
    """A file that isn't a volume of BraTS: unreadable, another shape, or not a number."""


class LabelsMissingError(CohortError):
    """Patients whose grade nobody tells."""


class LabelConflictError(CohortError):
    """A patient with two grades."""


class SamePatientError(CohortError):
    """One patient twice: under two names, or on two sides of a split."""


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient of a cohort.

    `id` is the same for every BraTS name of the patient, `name` that of the folder. `source` is the
    collection in the name (CBICA, TCIA09, 2013 …), which nearly gives the grade away.
    """

    id: str
    name: str
    grade: Grade
    source: str
    files: Mapping[Contrast, Path]
    segmentation: Path | None


class TumourFree(NamedTuple):
    """Someone without a tumour, who has no grade."""

    name: str
    files: Mapping[Contrast, Path]


class Cohort(NamedTuple):
    """All of a folder."""

    patients: tuple[Patient, ...]
    tumour_free: tuple[TumourFree, ...] = ()


class Imaged(Protocol):
    """Whoever has volumes to read: a `Patient` or someone `TumourFree`."""

    @property
    def name(self) -> str:
        """Name of the folder."""

    @property
    def files(self) -> Mapping[Contrast, Path]:
        """Where the three volumes are."""


def read_cohort(folder: Path, labels: Path | None = None) -> Cohort:
    """Find all patients, and who has no tumour: those below folders named NONE. Raises as `read_patients`."""
    cases = sorted(_cases(folder, tumour_free=True))
    tumour_free = tuple(TumourFree(case.name, _files(case)[0]) for case in cases)
    return Cohort(read_patients(folder, labels), tumour_free)


def read_patients(folder: Path, labels: Path | None = None) -> tuple[Patient, ...]:
    """Find all patients with a tumour below a folder, in the order of their ids.

    `labels` is a CSV with the columns `name` and `grade`, and `source` where it is known; any of a
    patient's names will do. Raises `CohortError`.
    """
    cases = sorted(_cases(folder))
    if not cases:
        raise NoPatientsError(
            f"no patient was found in {folder}: name the folder that holds the patients' folders, "
            "in each of them files that end in _flair, _t1ce and _t2 (.nii or .nii.gz)"
        )
    mapping = read_mapping(sorted(folder.rglob("*name_mapping*.csv")))
    table = _read_labels(labels, mapping) if labels else {}
    names = {case: mapping.identify(case.name) for case in cases}
    _refuse_twins(names)
    patients, unlabelled = [], []
    for case, patient_id in names.items():
        from_table, source = table.get(patient_id, (None, ""))
        grade = from_table or _grade_of(case, folder, mapping.grades.get(patient_id))
        files, segmentation = _files(case)
        if grade is None:
            unlabelled.append(case.name)
        else:
            source = source or source_of(patient_id)
            patients.append(Patient(patient_id, case.name, grade, source, files, segmentation))
    if unlabelled:
        raise LabelsMissingError(
            f"{len(unlabelled)} of {len(cases)} patients have no grade: {_listed(unlabelled)}; put them into "
            "folders named HGG and LGG, add BraTS's name_mapping.csv, or give a table with the columns "
            "name and grade"
        )
    return tuple(sorted(patients, key=lambda patient: patient.id))


def require_apart(*sides: Iterable[str]) -> None:
    """Raise `SamePatientError` where a patient's id is on two sides of a split."""
    seen: set[str] = set()
    shared: set[str] = set()
    for side in sides:
        ids = set(side)
        shared |= seen & ids
        seen |= ids
    if shared:
        raise SamePatientError(
            f"{len(shared)} patients are on two sides of the split: {_listed(sorted(shared))}; "
            "leave them on one side, or what is measured is not what a new patient would see"
        )


def load_patient(patient: Imaged) -> Prepared:
    """Read and normalise a patient's volumes, by the path that a hospital's study takes too.

    Raises `VolumeError`, which names the file.
    """
    volumes = {contrast: _load(path) for contrast, path in patient.files.items()}
    try:
        return prepare_in_space(volumes)
    except PreprocessingError as error:
        raise VolumeError(f"{patient.name}: {error} Leave this patient out.") from error


def load_labels(patient: Patient) -> npt.NDArray[np.uint8] | None:
    """Read the segmentation, labels 0–4 of shape (240, 240, 155); None where there is none."""
    if patient.segmentation is None:
        return None
    found: npt.NDArray[np.uint8] = np.rint(_load(patient.segmentation).array).astype(np.uint8)
    if not np.isin(found, (0, *TUMOUR_LABELS)).all():
        raise VolumeError(f"{patient.segmentation} holds labels other than 0 to 4: take BraTS's own file")
    return found


def tumour_on(stack: Stack, labels: npt.NDArray[np.uint8]) -> Mask:
    """Where the whole tumour is on a stack's grid, bool (slice, row, column)."""
    tumour = Volume(np.isin(labels, TUMOUR_LABELS).astype(np.float32), BRATS_AFFINE)
    slices, rows, columns = stack.mask.shape
    return (tumour.resample((slices, rows, columns), stack.affine).array > 0.5) & stack.mask


def enhancing_ml(labels: npt.NDArray[np.uint8]) -> float:
    """Volume of the enhancing tumour in millilitres, voxels being 1 mm³."""
    return float(np.isin(labels, ENHANCING_LABELS).sum()) / 1000


def _cases(folder: Path, *, tumour_free: bool = False) -> Iterable[Path]:
    """Find the folders with volumes: those below a folder NONE, or else the others."""
    for place, _, names in os.walk(folder, followlinks=True):
        parts = Path(place).relative_to(folder).parts
        apart = NO_TUMOUR_FOLDER in (part.upper() for part in parts)
        if apart is tumour_free and any(_word(name) in CONTRAST_WORDS for name in names):
            yield Path(place)


def _word(name: str) -> str:
    """Give what a NIfTI file's name ends in, and nothing for other and hidden files."""
    if name.startswith("."):
        return ""
    stem, count = _NIFTI.subn("", name)
    return re.split(r"[_-]", stem)[-1].lower() if count else ""


def _files(case: Path) -> tuple[dict[Contrast, Path], Path | None]:
    files: dict[Contrast, Path] = {}
    segmentation = None
    for path in sorted(case.iterdir()):
        word = _word(path.name)
        if word in SEGMENTATION_WORDS or path.name.lower().startswith("seg-"):
            segmentation = path
        elif contrast := CONTRAST_WORDS.get(word):
            if contrast in files:
                raise SequenceMissingError(
                    f"{case} holds two files for {contrast}: {files[contrast].name} and {path.name}; keep one"
                )
            files[contrast] = path
    if missing := [contrast for contrast in Contrast if contrast not in files]:
        raise SequenceMissingError(
            f"{case} has no file for {', '.join(missing)}: complete the folder or take it away"
        )
    return files, segmentation


def _grade_of(case: Path, folder: Path, from_mapping: Grade | None) -> Grade | None:
    parts = {part.upper() for part in (folder.name, *case.relative_to(folder).parts[:-1])}
    found = {grade for grade in Grade if grade in parts} | ({from_mapping} if from_mapping else set())
    if len(found) > 1:
        raise LabelConflictError(
            f"{case.name} is both HGG and LGG by its folder and the name mapping: "
            "move it, or say which in a table with the columns name and grade"
        )
    return next(iter(found), None)


def _read_labels(path: Path, mapping: NameMapping) -> dict[str, tuple[Grade, str]]:
    table: dict[str, tuple[Grade, str]] = {}
    for line, row in enumerate(read_rows(path, "name", "grade"), start=2):
        patient = mapping.identify(row["name"])
        entry = (parse_grade(row["grade"], path, line), row.get("source", ""))
        if table.setdefault(patient, entry) != entry:
            raise LabelTableError(f"line {line} of {path} contradicts an earlier one on {row['name']}")
    return table


def _refuse_twins(names: Mapping[Path, str]) -> None:
    bearers: dict[str, list[Path]] = defaultdict(list)
    for case, patient_id in names.items():
        bearers[patient_id.lower()].append(case)
    twins = [" = ".join(str(case) for case in cases) for cases in bearers.values() if len(cases) > 1]
    if twins:
        raise SamePatientError(
            f"{len(twins)} patients are there more than once: {_listed(twins)}; keep one folder of each"
        )


def _load(path: Path) -> Volume:
    try:
        shape = tuple(nib.Nifti1Image.from_filename(path).shape)
        if shape != BRATS_SHAPE:
            raise VolumeError(
                f"{path} has the shape {shape}, BraTS's files have {BRATS_SHAPE}: "
                "take the co-registered, skull-stripped files of BraTS"
            )
        volume = load_volume(path)
    except _UNREADABLE as error:
        raise VolumeError(f"{path} can't be read as NIfTI ({error}): copy it again") from error
    if not np.isfinite(volume.array).all():
        raise VolumeError(
            f"{path} holds values that are not numbers: copy it again, or leave the patient out"
        )
    return volume


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
