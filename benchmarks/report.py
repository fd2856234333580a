"""What building a study's results costs, in CPU seconds, part by part.

    python -m benchmarks.report --rounds 3
    python -m benchmarks.report --rounds 3 --optional
    python -m benchmarks.report --rounds 3 --share

A study of T1 post-contrast 256×256×176 and FLAIR and T2 of 512×512×24, noise and a spot of attention, read
from files. The time is that of the pipeline's `build_objects`, by the process's own clock, so that other
work on the machine counts little; `--optional` measures it once more with each kind of optional object, the
difference being that object's. The first round is not counted; medians of the rest.

`--share` takes a simulated study (four series of some fifty slices) through all that a worker computes for
it, with the shipped checkpoint, and says which part of the CPU seconds each step had: choosing the series and
bringing them to BraTS space, the network, and building the objects. Receiving, sending and the ledger are not
in it, nor is loading the checkpoint, which a worker does once.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage, generate_uid
from rich.console import Console

from dicom_node.reading.series_choice import plain_t1, select_series
from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import Algorithm, Device, Report, SeriesRole
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind
from dicom_node.uids import derive_uid
from model.card import default_checkpoint_folder
from model.grade import Contrast, Grade, GradePrediction
from model.predict import Predictor
from model.space.volume import Volume
from worker.demonstration.demo_cases import DemoCase, ScannedStudy, scan
from worker.study import pipeline
from worker.study.choosing import describe_files
from worker.study.pipeline import build_objects

SHAPES = {Contrast.T1CE: (256, 176, 1.0), Contrast.FLAIR: (512, 24, 6.0), Contrast.T2: (512, 24, 6.0)}
FIELD_MM = 240.0
console = Console()


def write_series(folder: Path, contrast: Contrast, study: str) -> list[Path]:
    """Write one series of noise; its frames lie axially around the origin."""
    pixels, slices, spacing = SHAPES[contrast]
    noise = np.random.default_rng(0).integers(0, 1000, (pixels, pixels), dtype=np.uint16)
    series, reference, paths = generate_uid(), derive_uid(study, "frame of reference"), []
    for index in range(slices):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = study, series, "MR"
        dataset.PatientID = dataset.PatientName = "BENCH"
        dataset.FrameOfReferenceUID, dataset.SeriesNumber, dataset.InstanceNumber = reference, 1, index + 1
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-FIELD_MM / 2, -FIELD_MM / 2, (index - slices / 2) * spacing]
        dataset.PixelSpacing, dataset.SliceThickness = [FIELD_MM / pixels] * 2, spacing
        dataset.Rows = dataset.Columns = pixels
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 15, 0, noise.tobytes()
        paths.append(folder / f"{contrast}-{index:03d}.dcm")
        paths[-1].write_bytes(write_bytes(dataset))
    return paths


def spot() -> Volume:
    """Attention on the grid of BraTS, a bell of 20 mm off the middle."""
    shape = (240, 240, 155)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [-120, -120, -77]
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) + affine[:3, 3]
    distance = ((places - [30, 20, 10]) ** 2).sum(axis=-1)
    return Volume(np.exp(-distance / (2 * 20.0**2)).astype(np.float32), affine)


def describe() -> Report:
    """Say what a report says."""
    return Report(
        prediction=GradePrediction(0.9, 0.5, (0.9,), (1.0,)),
        algorithm=Algorithm("benchmark", "1", "ab" * 32, "Demonstration weights."),
        roles=tuple(SeriesRole(contrast, derive_uid(contrast), "noise", 1.0) for contrast in Contrast),
        result_id="0f" * 32,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        device=Device(derive_uid("device"), "BENCH", "gliograde", "0", "1"),
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optional", action="store_true", help="measure the optional objects too")
    parser.add_argument("--share", action="store_true", help="measure the part of a whole study's time")
    arguments = parser.parse_args()
    if arguments.share:
        measure_share(arguments.rounds)
    else:
        measure_objects(arguments.rounds, optional=arguments.optional)


def measure_share(rounds: int) -> None:
    """Print what each step of a study costs, and which part of the whole that is."""
    predictor = Predictor(default_checkpoint_folder())
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scanned = scan(DemoCase("share", Grade.HGG, 900_001, enhancement="ring"), folder / "study")
        for counted in range(rounds + 1):
            for step, seconds in _steps(scanned, predictor, folder / str(counted)):
                spent.setdefault(step, [])
                if counted:
                    spent[step].append(seconds)
    medians = {step: statistics.median(values) for step, values in spent.items()}
    whole = medians["prepare"] + medians["grade"] + medians["images and report"]
    for step, seconds in medians.items():
        own = seconds - medians["images and report"] if step.startswith("and ") else seconds
        console.print(f"{step}: {own:.2f} CPU s, {100 * own / whole:.1f} % of the first three")


def _steps(scanned: ScannedStudy, predictor: Predictor, folder: Path) -> Iterator[tuple[str, float]]:
    """Take the study through its steps: the name of each and its CPU seconds, children's included."""
    prepared, graded = folder / "prepare", folder / "grade"
    for each in (prepared, graded):
        each.mkdir(parents=True)
    begun = cpu_seconds()
    series, paths = index(scanned)
    described = describe_files(series)
    choices = select_series(described)
    chosen = {contrast: [paths[uid] for uid in one.sop_instance_uids] for contrast, one in choices.items()}
    before = plain_t1(described, choices)
    pipeline.prepare(chosen, [paths[uid] for uid in before.sop_instance_uids] if before else [], prepared)
    yield "prepare", cpu_seconds() - begun
    begun = cpu_seconds()
    pipeline.grade(prepared, predictor, graded)
    yield "grade", cpu_seconds() - begun
    for name, kinds in cases(optional=True).items():
        begun = cpu_seconds()
        _, attention = pipeline.load_graded(prepared, graded)
        build_objects(describe(), chosen, attention, 24, kinds)
        yield name, cpu_seconds() - begun


def index(scanned: ScannedStudy) -> tuple[dict[str, list[Path]], dict[str, Path]]:
    """Files of each series, and the file of each instance, as the ledger would know them."""
    series: dict[str, list[Path]] = {}
    paths: dict[str, Path] = {}
    for path in chain.from_iterable(scanned.files.values()):
        header = dcmread(path, stop_before_pixels=True)
        series.setdefault(str(header.SeriesInstanceUID), []).append(path)
        paths[str(header.SOPInstanceUID)] = path
    return series, paths


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def cases(*, optional: bool) -> dict[str, set[ResultKind]]:
    """What is built in each case, the default kinds first."""
    built = {"images and report": set(DEFAULT_KINDS)}
    if optional:
        built |= {f"and {kind}": {*DEFAULT_KINDS, kind} for kind in ResultKind if kind not in DEFAULT_KINDS}
    return built


def measure_objects(rounds: int, *, optional: bool) -> None:
    """Print what building the objects costs."""
    attention = dict.fromkeys(Contrast, spot())
    built = cases(optional=optional)
    times: dict[str, list[float]] = {name: [] for name in built}
    with tempfile.TemporaryDirectory() as folder:
        study = generate_uid()
        series = {contrast: write_series(Path(folder), contrast, study) for contrast in Contrast}
        for counted in range(rounds + 1):
            for name, kinds in built.items():
                begun = time.process_time()
                objects = build_objects(describe(), series, attention, 24, kinds)
                if counted:
                    times[name].append(time.process_time() - begun)
                size = sum(len(item.content) for item in objects)
                if counted == rounds:
                    console.print(f"{name}: {len(objects)} objects, {size / 1e6:.0f} MB")
    for name, values in times.items():
        console.print(f"{name}: {statistics.median(values):.2f} CPU s")


if __name__ == "__main__":
    main()
