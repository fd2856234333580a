"""What the headers of a series say of its pulse sequence, its name and its place, classic or enhanced."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.series_rules import NO_AGENT_VALUES, Physics, Plane
from dicom_node.slices import GeometryError, SlicePlane, functional_group, slice_planes


def series_text(header: Dataset) -> str:
    """Return Series Description and Protocol Name in lower case; punctuation that says nothing is blank."""
    both = f"{header.get('SeriesDescription') or ''} {header.get('ProtocolName') or ''}"
    return re.sub(r"[^\w+\-/*]|_", " ", both).lower()


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


def is_echo_planar(header: Dataset) -> bool:
    """Whether the series is echo planar or diffusion-weighted."""
    frame = _first_frame(header)
    weighting = functional_group(header, frame, "MRDiffusionSequence").get("DiffusionBValue")
    b_value = header.get("DiffusionBValue") or weighting or 0
    return (
        "EP" in text_values(header, "ScanningSequence")
        or header.get("EchoPlanarPulseSequence") == "YES"
        or float(b_value) > 0
    )


def read_physics(header: Dataset) -> Physics:
    """Pulse sequence attributes from where classic and enhanced objects keep them (PS3.3 C.8.3.1, C.8.13)."""
    frame = _first_frame(header)
    timing = functional_group(header, frame, "MRTimingAndRelatedParametersSequence")
    echo = functional_group(header, frame, "MREchoSequence")
    modifier = functional_group(header, frame, "MRModifierSequence")
    sequence = text_values(header, "ScanningSequence")
    return Physics(
        repetition_time=_number(header.get("RepetitionTime"), timing.get("RepetitionTime")),
        echo_time=_number(header.get("EchoTime"), echo.get("EffectiveEchoTime")),
        inversion_time=_number(header.get("InversionTime"), modifier.get("InversionTimes")),
        gradient_echo="GR" in sequence or header.get("EchoPulseSequence") == "GRADIENT",
        inversion_recovery="IR" in sequence or modifier.get("InversionRecovery") == "YES",
    )


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
