"""Our objects made readable: a Structured Report as indented text, a Secondary Capture as PNG."""

from pathlib import Path

from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.results.report import MANUFACTURER


class ShowError(ValueError):
    """A file isn't one of our reports; the message says what it is instead."""


def show_report(path: Path) -> str:
    """Render one of our Structured Reports from its file; raises ShowError."""
    try:
        document = dcmread(path)
    except InvalidDicomError as error:
        raise ShowError(f"{path} is no DICOM file") from error
    if "ContentSequence" not in document:
        raise ShowError(f"{path} is no Structured Report")
    if document.get("Manufacturer") != MANUFACTURER:
        raise ShowError(f"{path} is a report of another device")
    return render_text(document)


def render_text(document: Dataset) -> str:
    """Render the content tree of a Structured Report: one item a line, children indented by two spaces.

    Nothing of the patient's header is printed. Ends with a newline.
    """
    return "\n".join([*_lines(document, 0), ""])


def to_png(image: Dataset, path: Path) -> None:
    """Write a single-frame RGB image as PNG."""
    Image.fromarray(image.pixel_array).save(path)


def _lines(item: Dataset, depth: int) -> list[str]:
    value = _value(item)
    line = "  " * depth + (f"{_name(item)}: {value}" if value else _name(item))
    children = item.get("ContentSequence", ())
    return [line, *(below for child in children for below in _lines(child, depth + 1))]


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else str(item.ValueType)


def _value(item: Dataset) -> str:
    match item.ValueType:
        case "TEXT":
            return str(item.TextValue)
        case "CODE":
            return _code(item.ConceptCodeSequence[0])
        case "NUM":
            measured = item.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
            return f"{measured.NumericValue} {unit}"
        case "UIDREF":
            return str(item.UID)
        case "IMAGE":
            return _image(item.ReferencedSOPSequence[0])
        case _:
            return ""


def _code(code: Dataset) -> str:
    return f"{code.CodeMeaning} ({code.CodeValue}, {code.CodingSchemeDesignator})"


def _image(reference: Dataset) -> str:
    frame = reference.get("ReferencedFrameNumber")
    within = "" if frame is None else f" frame {frame}"
    return f"{reference.ReferencedSOPClassUID.name} {reference.ReferencedSOPInstanceUID}{within}"
