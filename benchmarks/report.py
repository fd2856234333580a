"""What building a study's results costs, in CPU seconds, part by part.

    python -m benchmarks.report --rounds 3

A study of T1 post-contrast 256×256×176 and FLAIR and T2 of 512×512×24, noise and a spot of attention, read
from files. The time is that of the pipeline's `build_objects`, by the process's own clock, so that other
work on the machine counts little; `--optional` measures it once more with each kind of optional object, the
difference being that object's. The first round is not counted; medians of the rest.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import MRImageStorage, generate_uid
from rich.console import Console

from dicom_node.results.part10 import write_bytes
from dicom_node.results.report import Algorithm, Device, Report, SeriesRole
from dicom_node.results.result_kind import DEFAULT_KINDS, ResultKind
from dicom_node.uids import derive_uid
from model.grade import Contrast, GradePrediction
from model.space.volume import Volume
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
    arguments = parser.parse_args()
    rounds = arguments.rounds
    attention = dict.fromkeys(Contrast, spot())
    cases = {"images and report": set(DEFAULT_KINDS)}
    if arguments.optional:
        cases |= {f"and {kind}": {*DEFAULT_KINDS, kind} for kind in ResultKind if kind not in DEFAULT_KINDS}
    times: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        study = generate_uid()
        series = {contrast: write_series(Path(folder), contrast, study) for contrast in Contrast}
        for counted in range(rounds + 1):
            for name, kinds in cases.items():
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
