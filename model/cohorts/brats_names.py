"""Who a BraTS name stands for, and from which collection the patient came.

BraTS gave one patient a new name nearly every year. Names of 2017 to 2019 keep all after the year
(`Brats18_TCIA09_141_1`); those of 2020 are tied to them by `name_mapping.csv` alone.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.grade import Grade

UNKNOWN_SOURCE = "unknown"
_YEAR = re.compile(r"^brats1[789]_", re.IGNORECASE)
_TIME_POINT = re.compile(r"^(brats-[a-z]+-\d+)-\d{3}$", re.IGNORECASE)
_SOURCE = re.compile(r"^((?:[a-z]+\d*|20\d\d))_\w+_\d+$", re.IGNORECASE)
_NAME_COLUMNS = (
    "BraTS_2019_subject_ID",
    "BraTS_2018_subject_ID",
    "BraTS_2017_subject_ID",
    "BraTS_2020_subject_ID",
    "BraTS_2021_subject_ID",
    "TCGA_TCIA_subject_ID",
)
"""The first that a row fills in names the patient; all are the patient's names."""


class CohortError(Exception):
    """A cohort that must not be trained or evaluated on as it is; the message says what to do.

    Trying again helps once the folder or the table has been mended.
    """


class LabelTableError(CohortError):
    """A table of names or grades that can't be understood."""


@dataclass(frozen=True, slots=True)
class NameMapping:
    """Names in lower case → the patient's id, and the grade of each id, as `name_mapping.csv` has them."""

    ids: Mapping[str, str] = field(default_factory=dict)
    grades: Mapping[str, Grade] = field(default_factory=dict)

    def identify(self, name: str) -> str:
        """Give the id of the patient of this name: the same for every name that one patient bears."""
        plain = _without_year(name)
        return self.ids.get(name.lower()) or self.ids.get(plain.lower()) or plain


def source_of(patient_id: str) -> str:
    """Name the collection that an id speaks of: CBICA, TCIA09, 2013 …, or `UNKNOWN_SOURCE`."""
    found = _SOURCE.match(patient_id)
    return found.group(1).upper() if found and not patient_id.lower().startswith("brats") else UNKNOWN_SOURCE


def read_mapping(paths: Iterable[Path]) -> NameMapping:
    """Read BraTS's name_mapping.csv of one year or more. Raises `LabelTableError`."""
    ids: dict[str, str] = {}
    grades: dict[str, Grade] = {}
    for path in paths:
        for line, row in enumerate(read_rows(path, "Grade"), start=2):
            names = [row[column] for column in _NAME_COLUMNS if row.get(column, "NA") not in ("", "NA")]
            if not names:
                raise LabelTableError(f"line {line} of {path} names no patient: remove or complete it")
            known = {ids[each] for name in names for each in _keys(name) if each in ids}
            patient = min(known) if known else _without_year(names[0])
            grade = parse_grade(row["Grade"], path, line)
            if len(known) > 1 or grades.setdefault(patient, grade) is not grade:
                raise LabelTableError(
                    f"line {line} of {path} contradicts an earlier one on the patient or the grade of "
                    f"{names[0]}: keep the right one"
                )
            ids |= {key: patient for name in names for key in _keys(name)}
    return NameMapping(ids, grades)


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a CSV with a header that has these columns. Raises `LabelTableError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = [{key: value.strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(f"{path} can't be read as a CSV table: {error}") from error
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise LabelTableError(f"{path} has no column {missing[0]}: its first line must name the columns")
    return rows


def parse_grade(text: str, path: Path, line: int) -> Grade:
    """Give the grade that a cell says. Raises `LabelTableError`."""
    try:
        return Grade(text.upper())
    except ValueError as error:
        raise LabelTableError(f"line {line} of {path} has the grade {text!r}: write HGG or LGG") from error


def _without_year(name: str) -> str:
    return _TIME_POINT.sub(r"\1", _YEAR.sub("", name))


def _keys(name: str) -> set[str]:
    return {name.lower(), _without_year(name).lower()}
