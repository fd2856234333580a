"""The series of a study described from its files, and the files of what was chosen; no ledger here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.reading.nifti import is_mask
from dicom_node.reading.series import describe_study
from dicom_node.reading.series_description import MASK, SeriesDescription
from dicom_node.reading.series_parts import WHOLE, split_series
from dicom_node.reading.site_rules import SiteRule

SeriesFiles = Mapping[str, Sequence[Path]]
"""Files of each series, keyed by Series Instance UID."""


def describe_files(series: SeriesFiles, site_rules: Sequence[SiteRule] = ()) -> list[SeriesDescription]:
    """Describe every volume of a study from its headers, masks among them by their pixels."""
    described = describe_study([_headers(files) for files in series.values()], site_rules)
    return [replace(one, exclusion=MASK) if _is_masked(one, series) else one for one in described]


def part_files(files: Sequence[Path], part: str) -> list[Path]:
    """Return the files of one volume of a series."""
    if part == WHOLE:
        return list(files)
    paths = {str(header.SOPInstanceUID): path for header, path in zip(_headers(files), files, strict=True)}
    return [paths[str(header.SOPInstanceUID)] for header in split_series(_headers(files))[part]]


def _is_masked(one: SeriesDescription, series: SeriesFiles) -> bool:
    """Whether a candidate is a mask; only its pixels tell, and only of candidates they are read."""
    if one.exclusion is not None or one.role.contrast is None:
        return False
    return is_mask(part_files(series[one.series_instance_uid], one.part))


def _headers(files: Sequence[Path]) -> list[Dataset]:
    return [dcmread(path, stop_before_pixels=True) for path in files]
