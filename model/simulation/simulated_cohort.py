"""Simulated patients as BraTS lays patients out, and the fixed set of them that nothing is trained on.

Every series lies in BraTS space, skull-stripped, with the tumour's labels 1, 2 and 4 beside it. Patients
without a tumour lie in a folder of their own: training a cohort passes them by, and evaluating it asks only
the gates about them.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from model.cohorts.brats import NO_TUMOUR_FOLDER
from model.grade import Contrast
from model.simulation.samples import grade_of, simulate_in_space
from model.simulation.simulate import Parameters, describe_patient
from model.simulation.template import Head, typical_to_atlas
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE
from model.space.volume import Volume, save_volume

TEST_HEAD = Head.SRI24
"""Training knows MNI152 alone."""
OWN_SEEDS, VALIDATION_OFFSET = 1_000_000, 500_000
"""Of a training seed, and where those that validate begin among them."""
TEST_SEEDS = range(700_000_000, 700_000_444)
"""400 patients with a tumour and 44 without."""
TEST_SHA256 = "14c7fd96f4f489947a312d13fea00d9b2514bc37d2eb25c685a31cc9247a69fb"
_NAMES = {Contrast.FLAIR: "flair", Contrast.T1CE: "t1ce", Contrast.T2: "t2"}


def training_seeds(seed: int, count: int) -> range:
    """Seeds of the simulated patients that a training of this seed learns from."""
    return range(seed * OWN_SEEDS, seed * OWN_SEEDS + count)


def validation_seeds(seed: int, count: int) -> range:
    """Seeds of the simulated patients that calibrate a checkpoint and set its gates."""
    start = seed * OWN_SEEDS + VALIDATION_OFFSET
    return range(start, start + count)


def some_of(seeds: range, patients: int | None, skip: int = 0) -> range:
    """Give the seeds of so many patients after those passed over; None gives all that are left.

    Raises ValueError where that names nobody, or more than there are.
    """
    left = len(seeds) - skip
    asked = left if patients is None else patients
    if skip < 0 or not 1 <= asked <= left:
        raise ValueError(
            f"there are {len(seeds)} patients: can't pass over {skip} and take {asked}; "
            "ask for at least one and for no more than are left"
        )
    return seeds[skip : skip + asked]


def write_patient(seed: int, head: Head, folder: Path) -> Path:
    """Simulate the patient of this seed, with the grade that the seed has, and write BraTS's five files.

    They are stripped in BraTS space, as BraTS's are: a file's edge is the brain's, not a mixture with what
    was beside it. Gives the patient's own folder: `folder`/HGG, LGG or NONE/`name`.
    """
    grade = grade_of(seed)
    case, placed = simulate_in_space(seed, head)
    name = f"Sim_{head.value}_{seed:09d}"
    place = folder / (grade.value if grade else NO_TUMOUR_FOLDER) / name
    place.mkdir(parents=True, exist_ok=True)
    to_atlas = typical_to_atlas()
    plain = case.native_t1.moved(to_atlas).resample(BRATS_SHAPE, BRATS_AFFINE).array
    images = {word: placed.arrays[contrast] for contrast, word in _NAMES.items()} | {"t1": plain}
    for word, array in images.items():
        stripped = np.where(placed.mask & np.isfinite(array), np.rint(array), np.float32(0))
        save_volume(Volume(stripped, BRATS_AFFINE), place / f"{name}_{word}.nii.gz")
    labels = labels_in_space(case.segmentation.moved(to_atlas))
    save_volume(Volume(labels, BRATS_AFFINE), place / f"{name}_seg.nii.gz")
    (place / "parameters.json").write_text(json.dumps(dict(case.parameters), indent=1))
    return place


def digest(patients: list[Parameters]) -> str:
    """SHA-256 of what was drawn of some patients, to six places."""
    rounded = [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in each.items()}
        for each in patients
    ]
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()


def describe_test_set() -> list[Parameters]:
    """What is drawn of each patient of the test set, without imaging them."""
    return [describe_patient(seed, grade_of(seed), TEST_HEAD) for seed in TEST_SEEDS]


def labels_in_space(segmentation: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Give the label with the largest share of each voxel, where tumour takes half of it or more."""
    shares = np.stack(
        [
            Volume((segmentation.array == label).astype(np.float32), segmentation.affine)
            .resample(BRATS_SHAPE, BRATS_AFFINE)
            .array
            for label in (1, 2, 4)
        ]
    )
    labels = np.array([1, 2, 4], np.float32)[shares.argmax(axis=0)]
    return np.where(shares.sum(axis=0) >= 0.5, labels, np.float32(0))
