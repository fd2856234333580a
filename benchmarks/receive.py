"""How fast the node receives, beside DCMTK's storescp and Orthanc, on the same files, interleaved.

    python -m benchmarks.receive throughput --matrix 256 --associations 1
    python -m benchmarks.receive throughput --matrix 512 --associations 4
    python -m benchmarks.receive throughput --matrix 256 --associations 1 --nagle
    python -m benchmarks.receive latency
    python -m benchmarks.receive memory

The sender is DCMTK's storescu, `TCP_NODELAY=1` on both ends unless `--nagle`. storescp has its defaults (PDUs
of 16 KiB, one association after the other) unless its line says otherwise, and never syncs a file to
disk; the node does before every Success, Orthanc by its default. Each round runs every server once, every
other round in reverse order; the first round is not counted. Ratios are medians of the rounds' own ratios.
Needs dcmtk, and for the comparison with it orthanc, of Debian.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE
from rich.console import Console
from rich.table import Table

from dicom_node.peers.scu import Destination, send
from dicom_node.reading.mr_study import PROTOCOL, PatientIdentity, StudyHeader, build_mr_series, save_study
from model.space.volume import Volume

STORESCU, STORESCP, ORTHANC = Path("/usr/bin/storescu"), Path("/usr/bin/storescp"), Path("/usr/sbin/Orthanc")
SERVERS = ("gliograde", "storescp", "storescp --max-pdu 131072", "storescp --fork", "orthanc")
console = Console()


def nodelay() -> str:
    """DCMTK's switch of Nagle's algorithm."""
    return os.environ.get("TCP_NODELAY", "1")


def free_port() -> int:
    """Port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def make_files(folder: Path, matrix: int, count: int) -> list[Path]:
    """Write `count` MR objects of matrix × matrix, noise under honest headers, in studies of 100."""
    paths: list[Path] = []
    noise = np.random.default_rng(0)
    for first in range(0, count, 100):
        slices = min(100, count - first)
        array = noise.integers(0, 4000, (matrix, matrix, slices)).astype(np.float32)
        header = StudyHeader(
            patient=PatientIdentity(patient_id="BENCH", patient_name="BENCH"), seed=f"b{first}"
        )
        series = build_mr_series(Volume(array, np.diag([1.0, 1.0, 2.0, 1.0])), PROTOCOL["flair"], header, 1)
        for dataset in series:  # what a scanner adds in private elements
            dataset.private_block(0x0029, "BENCH", create=True).add_new(0x10, "OB", bytes(8000))
        paths += save_study(series, folder / str(first))
    return paths


@contextmanager
def gliograde(folder: Path, port: int) -> Iterator[psutil.Process]:
    """Run our node."""
    settings = {
        "GLIOGRADE_DATA_FOLDER": str(folder),
        "GLIOGRADE_DICOM_PORT": str(port),
        "GLIOGRADE_PEERS": json.dumps([{"ae_title": "BENCH", "address": "127.0.0.1"}]),
        "GLIOGRADE_MINIMUM_FREE_BYTES": "0",
        "GLIOGRADE_MAXIMUM_ASSOCIATIONS_PER_PEER": "25",
    }
    with running([sys.executable, "-m", "dicom_node"], port, settings) as process:
        yield process


@contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[psutil.Process]:
    """Run DCMTK's storescp."""
    command = [STORESCP, *options, "-od", folder, "+xa", str(port)]
    with running(command, port, {}) as process:
        yield process


@contextmanager
def orthanc(folder: Path, port: int) -> Iterator[psutil.Process]:
    """Run Orthanc with its defaults, and as many threads as it has."""
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": port,
        "DicomAet": "GLIOGRADE",
        "HttpServerEnabled": False,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowStore": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with running([ORTHANC, folder / "orthanc.json"], port, {}) as process:
        yield process


@contextmanager
def running(command: list[Path | str], port: int, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """Run a server until the block ends; it listens when the block begins."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, "TCP_NODELAY": nodelay()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not start") from None
                time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve(name: str, folder: Path, port: int):  # noqa: ANN201 - a context manager of one of the above
    """Run a server by its name."""
    if name == "gliograde":
        return gliograde(folder, port)
    if name == "orthanc":
        return orthanc(folder, port)
    folder.mkdir(parents=True, exist_ok=True)
    return storescp(folder, port, *name.split()[1:])


def transmit(port: int, parts: list[list[Path]]) -> float:
    """Send each part by a storescu of its own, all at once; the seconds until the last has ended."""
    begin = time.perf_counter()
    command = [STORESCU, "--max-pdu", "131072", "-aet", "BENCH", "-aec", "GLIOGRADE", "127.0.0.1", str(port)]
    environment = os.environ | {"TCP_NODELAY": nodelay()}
    senders = [subprocess.Popen([*command, *part], env=environment) for part in parts]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - begin
    if any(codes):
        raise SystemExit(f"storescu ended with {codes}")
    return seconds


def throughput(arguments: argparse.Namespace) -> None:
    """Wall time of `count` objects by `associations` senders at once, each server in turn."""
    if arguments.nagle:
        os.environ["TCP_NODELAY"] = "0"
    names = [name for name in arguments.servers if name != "orthanc" or ORTHANC.exists()]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        files = make_files(folder / "files", arguments.matrix, arguments.count)
        parts = [files[start :: arguments.associations] for start in range(arguments.associations)]
        size = files[0].stat().st_size
        seconds: dict[str, list[float]] = {server: [] for server in names}
        own_cpu: dict[str, list[float]] = {server: [] for server in names}
        for round_number in range(arguments.rounds + 1):
            for server in names if round_number % 2 else reversed(names):
                target, port = folder / "target", free_port()
                with serve(server, target, port) as process:
                    before = cpu_seconds(process)
                    taken = transmit(port, parts)
                    cpu = cpu_seconds(process) - before
                shutil.rmtree(target)
                if round_number:
                    seconds[server].append(taken)
                    own_cpu[server].append(cpu)
    table = Table(
        title=f"{arguments.count} objects of {size:,} bytes, {arguments.associations} association(s), "
        f"DCMTK's TCP_NODELAY={nodelay()}, {arguments.rounds} rounds"
    )
    for heading in ("server", "objects/s", "ms/object", "own CPU ms", "vs storescp", "range", "vs orthanc"):
        table.add_column(heading, justify="right")
    for server in names:
        median = statistics.median(seconds[server])
        cpu = statistics.median(own_cpu[server])
        row = [
            server,
            *(
                f"{value:.2f}"
                for value in (
                    arguments.count / median,
                    1000 * median / arguments.count,
                    1000 * cpu / arguments.count,
                )
            ),
        ]
        for peer in ("storescp", "orthanc"):
            if peer not in seconds:
                row.append("")
                continue
            ratios = [theirs / ours for theirs, ours in zip(seconds[peer], seconds[server], strict=True)]
            row.append(f"{statistics.median(ratios):.2f}")
            if peer == "storescp":
                row.append(f"{min(ratios):.2f}–{max(ratios):.2f}")
        table.add_row(*row)
    console.print(table)


def latency(arguments: argparse.Namespace) -> None:
    """Response times of one paced sender, while four others send as fast as they can."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, port = Path(name), free_port()
        files = make_files(folder / "files", 512, 400)
        probe = [dcmread(path) for path in make_files(folder / "probe", 256, arguments.count)]
        for number, dataset in enumerate(probe):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.InstanceNumber = number
        milliseconds: list[float] = []
        stop = threading.Event()
        with gliograde(folder / "target", port):
            others = [
                threading.Thread(target=keep_sending, args=(port, files[start::4], stop))
                for start in range(4)
            ]
            for other in others:
                other.start()
            time.sleep(1)
            entity = AE("BENCH")
            entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
            association = entity.associate("127.0.0.1", port, ae_title="GLIOGRADE")
            for dataset in probe:
                begin = time.perf_counter()
                assert association.send_c_store(dataset).Status == 0x0000
                milliseconds.append(1000 * (time.perf_counter() - begin))
            association.release()
            stop.set()
            for other in others:
                other.join()
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    console.print(
        f"{len(milliseconds)} responses while 4 others send: median {p50:.1f} ms, p90 {p90:.1f} ms, "
        f"p99 {p99:.1f} ms, longest {max(milliseconds):.1f} ms (the sender's own encoding included)"
    )


def keep_sending(port: int, part: list[Path], stop: threading.Event) -> None:
    """Send the same objects again and again, until told to stop."""
    while not stop.is_set():
        transmit(port, [part])


def memory(arguments: argparse.Namespace) -> None:
    """Resident memory of all the node's processes while one enhanced MR of a gigabyte arrives."""
    frames = arguments.megabytes * 2
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedMRImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientID, dataset.Modality = "BENCH", "MR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 512
    dataset.NumberOfFrames, dataset.BitsAllocated = frames, 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
    dataset.PixelData = bytes(frames * 512 * 512 * 2)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, port = Path(name), free_port()
        path = folder / "enhanced.dcm"
        buffer = BytesIO()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(buffer, enforce_file_format=True)
        path.write_bytes(buffer.getbuffer())
        node = Destination(
            name="n", ae_title="GLIOGRADE", address="127.0.0.1", port=port, calling_ae_title="BENCH"
        )
        with gliograde(folder / "target", port) as process:
            list(send(make_files(folder / "small", 64, 1), node))
            family = [process, *process.children(recursive=True)]
            base, peak, stop = resident(family), [0], threading.Event()

            def watch() -> None:
                while not stop.wait(0.02):
                    peak[0] = max(peak[0], resident(family))

            watcher = threading.Thread(target=watch)
            watcher.start()
            seconds = transmit(port, [[path]])
            stop.set()
            watcher.join()
    console.print(
        f"an enhanced MR of {arguments.megabytes} MiB in {seconds:.1f} s: resident {base / 2**20:.0f} MiB "
        f"before, {peak[0] / 2**20:.0f} MiB at most, in {len(family)} processes together, "
        "without the pages of mapped files"
    )


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a server and its processes, those that have ended included."""
    times = []
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a child of `--fork` that just ended: its parent has its times
            times.append(one.cpu_times())
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def resident(processes: list[psutil.Process]) -> int:
    """Resident bytes of these processes without the pages of mapped files."""
    return sum(info.rss - info.shared for info in (process.memory_info() for process in processes))


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receive", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk that is to be measured")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("throughput", help="objects a second beside storescp and Orthanc")
    one.add_argument("--matrix", type=int, default=256)
    one.add_argument("--associations", type=int, default=1)
    one.add_argument("--count", type=int, default=500)
    one.add_argument("--rounds", type=int, default=6)
    one.add_argument("--nagle", action="store_true", help="leave Nagle's algorithm on at DCMTK's ends")
    one.add_argument("--servers", nargs="+", default=SERVERS, choices=SERVERS)
    one.set_defaults(run=throughput)
    two = commands.add_parser("latency", help="response times under load")
    two.add_argument("--count", type=int, default=500)
    two.set_defaults(run=latency)
    three = commands.add_parser("memory", help="memory while a large object arrives")
    three.add_argument("--megabytes", type=int, default=1024)
    three.set_defaults(run=memory)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
