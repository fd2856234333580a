"""One Series Instance UID may hold several volumes: echoes, repeats, b-values, phases. Here they come apart.

Each part is what a scanner could have sent as a series of its own. What can't be told apart stays together,
for the checks behind to refuse it: nothing is converted by mistake.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.reading.series_headers import b_value, integer, nearest_plane, read_physics, text_values
from dicom_node.reading.series_rules import IMAGE_TYPES
from dicom_node.reading.slices import POSITION_TOLERANCE_MM, GeometryError, SlicePlane, slice_planes

WHOLE: Final = ""
"""Label of the only part of a series that is one volume."""


def split_series(headers: Sequence[Dataset]) -> dict[str, list[Dataset]]:
    """Split the instances of one series into volumes, keyed by a label: "TE 95", "coronal", "acquisition 2".

    Multi-frame instances are a part each. Single-frame instances come apart by orientation and matrix, and
    where places repeat by the first of `_DIFFERENCES` that explains it. A series with an instance that has
    no place stays whole.
    """
    multi_frame = [header for header in headers if "PerFrameFunctionalGroupsSequence" in header]
    single = [header for header in headers if "PerFrameFunctionalGroupsSequence" not in header]
    multi_frame.sort(
        key=lambda header: (integer(header.get("InstanceNumber")) or 0, str(header.SOPInstanceUID))
    )
    parts = [(f"object {number}", [header]) for number, header in enumerate(multi_frame, start=1)]
    try:
        planes = {id(header): slice_planes(header)[0] for header in single}
    except GeometryError:
        parts.append(("single frames", single))
    else:
        grids: defaultdict[Hashable, list[Dataset]] = defaultdict(list)
        for header in single:
            grids[_grid(planes[id(header)])].append(header)
        for name, members in zip(_grid_names(grids, planes), grids.values(), strict=True):
            parts += [(_joined(name, label), part) for label, part in _by_difference(members, planes)]
    if len(parts) == 1:
        return {WHOLE: list(headers)}
    return dict(zip(_distinct([label for label, _ in parts]), (part for _, part in parts), strict=True))


def _image_type(header: Dataset) -> tuple[str, ...]:
    return tuple(text_values(header, "ImageType"))


_DIFFERENCES: Final[Sequence[tuple[str, Callable[[Dataset], Any]]]] = (
    ("TE", lambda header: round(read_physics(header).echo_time or 0, 1)),
    ("TI", lambda header: round(read_physics(header).inversion_time or 0, 1)),
    ("b", lambda header: round(b_value(header, Dataset()))),
    ("image type", _image_type),
    ("temporal position", lambda header: integer(header.get("TemporalPositionIdentifier")) or 0),
    ("acquisition", lambda header: integer(header.get("AcquisitionNumber")) or 0),
    ("TR", lambda header: round(read_physics(header).repetition_time or 0, 1)),
    ("flip angle", lambda header: round(float(header.get("FlipAngle") or 0), 1)),
)
"""What tells volumes at the same places apart, in the order in which it is tried."""


def _by_difference(
    members: list[Dataset], planes: Mapping[int, SlicePlane]
) -> list[tuple[str, list[Dataset]]]:
    """Split instances of one grid until no place repeats; as they are where nothing explains the repeats."""
    places = {id(member): _place(planes[id(member)], planes[id(members[0])]) for member in members}
    distinct = len(set(places.values()))
    if distinct == len(members):
        return [(WHOLE, members)]
    for name, read in _DIFFERENCES:
        groups: defaultdict[Any, list[Dataset]] = defaultdict(list)
        for member in members:
            groups[read(member)].append(member)
        reach = max(len({places[id(member)] for member in group}) for group in groups.values())
        # a difference that tears the stack apart is a slip in a header, not another volume
        if len(groups) > 1 and reach == distinct:
            return [
                (_joined(_value_text(name, value, groups), label), part)
                for value in sorted(groups)
                for label, part in _by_difference(groups[value], planes)
            ]
    return [(WHOLE, members)]


def _value_text(name: str, value: Any, all_values: Iterable[Any]) -> str:  # noqa: ANN401 (see _DIFFERENCES)
    if isinstance(value, float):
        return f"{name} {value:g}"
    if isinstance(value, tuple):
        own = [word for word in value if not all(word in other for other in all_values)]
        return " ".join([name, *(word for word in own if word in IMAGE_TYPES)])
    return f"{name} {value}"


def _grid(plane: SlicePlane) -> Hashable:
    cosines = (*plane.along_row.round(2), *plane.along_column.round(2))
    spacing = tuple(round(value, 3) for value in plane.spacing_mm)
    return (*(float(value) + 0.0 for value in cosines), *spacing, plane.rows, plane.columns)


def _grid_names(
    grids: Mapping[Hashable, Sequence[Dataset]], planes: Mapping[int, SlicePlane]
) -> Sequence[str]:
    if len(grids) == 1:
        return [WHOLE]
    first = [planes[id(members[0])] for members in grids.values()]
    names = [str(nearest_plane([plane])) for plane in first]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {plane.columns}x{plane.rows}" for name, plane in zip(names, first, strict=True)]


def _place(plane: SlicePlane, first: SlicePlane) -> int:
    return round(float(plane.position @ first.normal) / POSITION_TOLERANCE_MM)


def _joined(*words: str) -> str:
    return ", ".join(word for word in words if word)


def _distinct(labels: Sequence[str]) -> list[str]:
    """Return the labels, numbered where one stands for several parts."""
    total, seen = Counter(labels), Counter[str]()
    result = []
    for label in labels:
        seen[label] += 1
        name = label or "rest"
        result.append(f"{name} #{seen[label]}" if total[label] > 1 else name)
    return result
