"""What the headers of a series say of its pulse sequence, its name and its place, classic or enhanced."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.reading.series_rules import DECLARED_ROLES, NO_AGENT_VALUES, Physics, Plane
from dicom_node.reading.series_words import text_roles
from dicom_node.reading.slices import GeometryError, SlicePlane, functional_group, slice_planes

LONGEST_EXAM_SECONDS: Final = 3 * 3600


def series_text(header: Dataset) -> str:
    """Return Series Description and Protocol Name in lower case; punctuation that says nothing is blank.

    GE keeps the exam's name, "BRAIN W/WO CONTRAST", in Protocol Name: there it counts only where the series
    has no name of its own.
    """
    description = normal_text(header.get("SeriesDescription"))
    protocol = normal_text(header.get("ProtocolName"))
    if description and str(header.get("Manufacturer") or "").upper().startswith("GE"):
        return description
    return f"{description} {protocol}"


def agent_text(header: Dataset) -> str:
    """Return the text that may speak of contrast agent: a Protocol Name only where it names a weighting too.

    A name without weighting is the exam's, and says nothing of one series.
    """
    description, whole = normal_text(header.get("SeriesDescription")), series_text(header)
    protocol = normal_text(header.get("ProtocolName"))
    return whole if not description.strip() or text_roles(protocol) else description


def normal_text(value: object) -> str:
    """Lower case, composed characters, blanks for punctuation other than + - / *."""
    text = unicodedata.normalize("NFC", str(value or ""))
    return re.sub(r"[^\w+\-/*]|_", " ", text).lower()


def agent_recorded(header: Dataset) -> bool:
    """Whether the Contrast/Bolus module (PS3.3 C.7.6.4) says that an agent was given."""
    agent = str(header.get("ContrastBolusAgent") or "").strip().upper()
    volume = header.get("ContrastBolusVolume")
    return (
        agent not in NO_AGENT_VALUES
        or bool(volume and float(volume) > 0)
        or bool(header.get("ContrastBolusStartTime"))
        or bool(header.get("ContrastBolusAgentSequence"))
    )


def bolus_lead_seconds(header: Dataset) -> float | None:
    """How long the bolus began before the acquisition, negative where after it.

    None where that isn't said, or is hours away: a time that somebody typed, or another day's.
    """
    begun, acquired = (
        day_seconds(header.get(word)) for word in ("ContrastBolusStartTime", "AcquisitionTime")
    )
    if begun is None or acquired is None or abs(acquired - begun) > LONGEST_EXAM_SECONDS:
        return None
    return acquired - begun


def day_seconds(value: object) -> float | None:
    """Seconds since midnight of a Time (PS3.5 6.2), None where it is absent or malformed."""
    match = re.fullmatch(r"(\d\d)(\d\d)?(\d\d(?:\.\d+)?)?", str(value or "").strip().replace(":", ""))
    if match is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def is_echo_planar(header: Dataset) -> bool:
    """Whether the series is echo planar or diffusion-weighted."""
    return (
        "EP" in text_values(header, "ScanningSequence")
        or header.get("EchoPlanarPulseSequence") == "YES"
        or _sequence_name(header).startswith("ep")
        or b_value(header, _first_frame(header)) > 0
    )


def b_value(header: Dataset, frame: Dataset) -> float:
    """Diffusion weighting in s/mm² of a classic object or of one frame, 0 where there is none."""
    weighting = functional_group(header, frame, "MRDiffusionSequence").get("DiffusionBValue")
    return _number(header.get("DiffusionBValue"), weighting) or 0.0


def read_physics(header: Dataset) -> Physics:
    """Pulse sequence attributes from where classic and enhanced objects keep them (PS3.3 C.8.3.1, C.8.13)."""
    frame = _first_frame(header)
    timing = functional_group(header, frame, "MRTimingAndRelatedParametersSequence")
    echo = functional_group(header, frame, "MREchoSequence")
    modifier = functional_group(header, frame, "MRModifierSequence")
    frame_type = functional_group(header, frame, "MRImageFrameTypeSequence")
    sequence, name = text_values(header, "ScanningSequence"), _sequence_name(header)
    declared = header.get("AcquisitionContrast") or frame_type.get("AcquisitionContrast")
    return Physics(
        # a time of 0 is a header that doesn't know
        repetition_time=_number(header.get("RepetitionTime"), timing.get("RepetitionTime")) or None,
        echo_time=_number(header.get("EchoTime"), echo.get("EffectiveEchoTime")) or None,
        inversion_time=_number(header.get("InversionTime"), modifier.get("InversionTimes")),
        gradient_echo="GR" in sequence or header.get("EchoPulseSequence") == "GRADIENT",
        inversion_recovery="IR" in sequence
        or modifier.get("InversionRecovery") == "YES"
        or name.startswith(("tir", "spcir")),
        spin_echo="SE" in sequence or header.get("EchoPulseSequence") == "SPIN",
        steady_state=name.startswith(("tfi", "ci3d")),
        declared=DECLARED_ROLES.get(str(declared)),
    )


def _sequence_name(header: Dataset) -> str:
    """Siemens's name of the pulse sequence without its star, in lower case."""
    name = header.get("SequenceName") or header.get("PulseSequenceName") or ""
    return str(name).lstrip("*").lower()


def _first_frame(header: Dataset) -> Dataset:
    frames = header.get("PerFrameFunctionalGroupsSequence")
    return frames[0] if frames else Dataset()


def series_planes(headers: Sequence[Dataset]) -> list[SlicePlane]:
    """Return the planes of all frames; none where one of them has no place."""
    try:
        return [plane for header in headers for plane in slice_planes(header)]
    except GeometryError:
        return []


def nearest_plane(planes: Sequence[SlicePlane]) -> Plane:
    """Return the anatomical plane nearest to the first slice."""
    if not planes:
        return Plane.UNKNOWN
    axis = int(np.argmax(np.abs(planes[0].normal)))
    return (Plane.SAGITTAL, Plane.CORONAL, Plane.AXIAL)[axis]


def coverage_mm(planes: Sequence[SlicePlane]) -> float:
    """Return the extent from inferior to superior; of axial slices the number times their step."""
    if not planes:
        return 0.0
    if nearest_plane(planes) is Plane.AXIAL:
        return slice_step_mm(planes) * len(planes)
    return float(np.ptp(np.concatenate([plane.corners[:, 2] for plane in planes])))


def voxel_mm3(planes: Sequence[SlicePlane]) -> float:
    """Return the volume that one voxel stands for, gaps included."""
    return planes[0].spacing_mm[0] * planes[0].spacing_mm[1] * slice_step_mm(planes) if planes else 0.0


def slice_step_mm(planes: Sequence[SlicePlane]) -> float:
    """Mean distance between neighbouring slices along the first one's normal; 0 for a single slice."""
    places = np.array([plane.position @ planes[0].normal for plane in planes])
    return float(np.ptp(places) / max(len(planes) - 1, 1))


def text_values(header: Dataset, keyword: str) -> list[str]:
    """Return the values of a text attribute, none where it is absent."""
    value: Any = header.get(keyword) or []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _number(*candidates: Any) -> float | None:  # noqa: ANN401 (a pydicom value, one or several)
    for candidate in candidates:
        if candidate is None or candidate == "":
            continue
        values = candidate if isinstance(candidate, Sequence) else [candidate]
        return float(values[0]) if len(values) else None
    return None


def integer(value: Any) -> int | None:  # noqa: ANN401 (a pydicom IS value)
    """Return an Integer String's number, None where it is absent or empty."""
    return None if value is None or value == "" else int(value)
