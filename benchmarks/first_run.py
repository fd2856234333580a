r"""Time a newcomer's first run: `python -m benchmarks.first_run [--beside]`.

Clones what is committed here into a new folder and runs the README's line there, each of its commands timed,
and tells when the first object of a result lay at the demo's PACS. With `--beside` the two commands of
dicom-ai-router follow in an environment of their own; its demo grades nothing, but is the nearest there is.
pip's cache is used as it is: empty it, or run twice, to compare like with like.
"""

import argparse
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
BESIDE = (
    "python3 -m venv .venv",
    ".venv/bin/pip install -q dicom-ai-router",
    ".venv/bin/dicom-ai-router demo",
)
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def readme_commands() -> list[str]:
    """Commands of the README's first block, in their order."""
    (block, *_) = re.findall(r"```sh\n(.+?)\n```", README.read_text(), re.DOTALL)
    return str(block).split(" && ")


def run(commands: Sequence[str], folder: Path, arrivals: Path | None = None) -> None:
    """Run the commands one after the other and print a line each; `arrivals` is where results come to lie."""
    begun = time.monotonic()
    for command in commands:
        started, first = time.monotonic(), None
        with subprocess.Popen(  # noqa: S602 - the README's own words
            command,
            shell=True,
            cwd=folder,
            env=BARE,
            stdout=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None:
                if first is None and arrivals is not None and arrivals.is_dir() and any(arrivals.iterdir()):
                    first = time.monotonic() - started
                time.sleep(0.1)
        told = "" if first is None else f", the first object at the PACS after {first:.1f} s"
        ended = "" if process.returncode == 0 else f" EXIT {process.returncode}"
        print(f"{time.monotonic() - started:7.1f} s  {command}{told}{ended}", flush=True)
    size = sum(path.lstat().st_size for path in (folder / ".venv").rglob("*")) >> 20
    print(f"{time.monotonic() - begun:7.1f} s  in all; an environment of {size} MiB", flush=True)


def main() -> None:
    """Run ours, and theirs where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", action="store_true", help="dicom-ai-router too")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="first-run-") as name:
        ours, theirs = Path(name) / "gliograde", Path(name) / "beside"
        subprocess.run(["git", "clone", "-q", REPOSITORY, ours], check=True)  # noqa: S607
        run(readme_commands(), ours, ours / "gliograde-demo" / "pacs")
        if arguments.beside:
            theirs.mkdir()
            run(BESIDE, theirs)


if __name__ == "__main__":
    main()
