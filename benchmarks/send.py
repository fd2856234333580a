"""What sending a study's results costs, beside DCMTK's storescu, on the same files, interleaved.

    python -m benchmarks.send --rounds 5
    python -m benchmarks.send --rounds 5 --nagle

One association a run, to storescp --ignore. storescu has TCP_NODELAY=1; with `--nagle` the peer has Nagle's
algorithm on for both. storescu's time is that of its process, ours that of `scu.send`, without the
start of Python; what a DCMTK process costs by itself is measured with echoscu and told. Each round runs both,
every other round in reverse order; the first is not counted. The ratio is the median of the rounds' own.
Needs dcmtk of Debian.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from rich.console import Console

from benchmarks.receive import STORESCP, STORESCU, free_port, running
from dicom_node.peers.scu import Destination, Sent, send
from dicom_node.results.part10 import write_bytes

ECHOSCU = Path("/usr/bin/echoscu")
console = Console()


def make_files(folder: Path, count: int, columns: int) -> list[Path]:
    """Write `count` Secondary Captures of 512 rows, RGB noise."""
    noise = np.random.default_rng(0).integers(0, 256, (512, columns, 3), dtype=np.uint8).tobytes()
    study, series = generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.InstanceNumber = study, series, number
        dataset.PatientID = dataset.PatientName = "BENCH"
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.Rows, dataset.Columns = 512, columns
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelRepresentation, dataset.PixelData = 0, noise
        paths.append(folder / f"{number:03d}.dcm")
        paths[-1].write_bytes(write_bytes(dataset))
    return paths


@contextmanager
def peer(*, nagle: bool) -> Iterator[int]:
    """Run a storescp that keeps nothing; gives its port."""
    port, before = free_port(), os.environ.get("TCP_NODELAY")
    os.environ["TCP_NODELAY"] = "0" if nagle else "1"
    try:
        with running([STORESCP, "--ignore", "--max-pdu", "131072", str(port)], port, {}):
            yield port
    finally:
        os.environ.pop("TCP_NODELAY")
        if before is not None:
            os.environ["TCP_NODELAY"] = before


def by_dcmtk(tool: Path, port: int, files: list[Path]) -> float:
    """Seconds of one DCMTK process."""
    begin = time.perf_counter()
    command: list[Path | str] = [tool, "--max-pdu", "131072", "127.0.0.1", str(port), *files]
    subprocess.run(command, env=os.environ | {"TCP_NODELAY": "1"}, check=True, capture_output=True)
    return time.perf_counter() - begin


def by_gliograde(port: int, files: list[Path]) -> float:
    """Seconds of our sender, association included."""
    place = Destination(name="peer", ae_title="PEER", address="127.0.0.1", port=port)
    begin = time.perf_counter()
    outcomes = {outcome.outcome for outcome in send(files, place)}
    seconds = time.perf_counter() - begin
    if outcomes != {Sent.SENT}:
        raise SystemExit(f"not all was sent: {outcomes}")
    return seconds


def measure(arguments: argparse.Namespace) -> None:
    """Run the rounds and print their medians."""
    ours: list[float] = []
    theirs: list[float] = []
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as name, peer(nagle=arguments.nagle) as port:
        files = make_files(Path(name), arguments.count, arguments.columns)
        size = files[0].stat().st_size
        for number in range(arguments.rounds + 1):
            starts.append(by_dcmtk(ECHOSCU, port, []))
            senders = [(ours, by_gliograde), (theirs, lambda p, f: by_dcmtk(STORESCU, p, f))]
            for times, sender in senders if number % 2 else reversed(senders):
                times.append(sender(port, files))
    start = statistics.median(starts[1:])
    each = [[1000 * seconds / arguments.count for seconds in times[1:]] for times in (ours, theirs)]
    ratios = [one / other for one, other in zip(*each, strict=True)]
    console.print(
        f"{arguments.count} objects of {size:,} bytes, the peer's TCP_NODELAY={int(not arguments.nagle)}, "
        f"{arguments.rounds} rounds: ours {statistics.median(each[0]):.2f} ms/object, storescu "
        f"{statistics.median(each[1]):.2f} (with its process's {1000 * start:.0f} ms in all); "
        f"ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.send", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=57)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nagle", action="store_true", help="the peer leaves Nagle's algorithm on")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
