"""Slices of real patients on disk, drawn with augmentation that depends on nothing but the seed."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from model.cohorts.brats import Patient, load_labels, load_patient, tumour_on
from model.network import CLASS_ORDER
from model.predict import by_training_set
from model.simulation.samples import NO_GRADE
from model.training.recipes import Recipe

_LEAST_TUMOUR_PIXELS = 100
_CACHE_VERSION = 2


class CachedPatient(NamedTuple):
    """A patient's slices, opened on disk and not read."""

    slices: npt.NDArray[np.float16]
    """(slice, 3, 224, 224), as in a stack, or its intensities, which `mean` and `deviation` belong to."""
    brain: npt.NDArray[np.bool_]
    tumour: npt.NDArray[np.bool_]
    """(slice, 224, 224)."""
    is_segmented: bool
    label: int
    """Index into `CLASS_ORDER`."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)

    def normalised(self, slices: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Bring slices (…, 3, row, column) of this patient to what the network sees."""
        return by_training_set(slices, self.mean, self.deviation)


class Batch(NamedTuple):
    """What one step learns from, n slices."""

    slices: Tensor
    """(n, 3, 224, 224)."""
    labels: Tensor
    """(n,), index into `CLASS_ORDER` or `NO_GRADE`."""
    masks: Tensor
    """(n, 1, 224, 224), where the tumour is, 0 or 1."""
    segmented: Tensor
    """(n,), 1 where the mask is known and 0 where not."""


def cache_patients(
    patients: Sequence[Patient],
    folder: Path,
    step: Callable[[], None] = lambda: None,
    *,
    intensities: bool = False,
) -> list[CachedPatient]:
    """Normalise each patient once and keep the slices in `folder`; what is there already is taken from it.

    With `intensities` they are kept as they are.
    """
    found = []
    for patient in patients:
        place = folder / patient.id
        files = [*patient.files.values(), *([patient.segmentation] if patient.segmentation else [])]
        made_of = [_CACHE_VERSION, intensities, *([str(path), path.stat().st_size] for path in files)]
        note = place / "made-of.json"
        if not note.exists() or json.loads(note.read_text()) != made_of:
            _cache(patient, place, intensities=intensities)
            note.write_text(json.dumps(made_of))
        slices, brain, tumour = (
            np.load(place / f"{name}.npy", mmap_mode="r") for name in ("slices", "brain", "tumour")
        )
        segmented = patient.segmentation is not None
        found.append(CachedPatient(slices, brain, tumour, segmented, CLASS_ORDER.index(patient.grade)))
        step()
    return found


def statistics(patients: Sequence[CachedPatient]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each contrast over all pixels of all slices, background too."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for patient in patients:
        values = patient.slices.astype(np.float64)
        count += values[:, 0].size
        total += values.sum(axis=(0, 2, 3))
        squares += (values**2).sum(axis=(0, 2, 3))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, np.finfo(np.float32).tiny))
    return tuple(mean.tolist()), tuple(deviation.tolist())


class TrainingSlices(Dataset[Batch]):
    """One epoch's slices; the rarer grade's patients come several times, after the split and never before."""

    def __init__(self, patients: Sequence[CachedPatient], recipe: Recipe, seed: int, every: int = 1) -> None:
        """`every` takes one slice of so many, for trials."""
        self._patients, self._recipe, self._seed = patients, recipe, seed
        counts = [sum(each.label == label for each in patients) for label in range(len(CLASS_ORDER))]
        self._places = [
            (patient, level)
            for patient, each in enumerate(patients)
            for _ in range(round(max(counts) / counts[each.label]))
            for level in range(0, len(each.slices), every)
        ]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Batch:
        patient, level = self._places[index]
        random = np.random.default_rng((self._seed, self.epoch, index))
        each = self._patients[patient]
        slices, tumour = _augment(each, level, self._recipe, random)
        seen = tumour.sum() >= _LEAST_TUMOUR_PIXELS
        ungraded = self._recipe.tumour_slices_only and each.is_segmented and not seen
        label = NO_GRADE if ungraded else each.label
        return Batch(slices, torch.tensor(label), tumour, torch.tensor(float(each.is_segmented)))


def _cache(patient: Patient, folder: Path, *, intensities: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stack = load_patient(patient).stack
    labels = load_labels(patient)
    tumour = np.zeros_like(stack.mask) if labels is None else tumour_on(stack, labels)
    for name, array in {
        "slices": _kept(stack.intensities if intensities else stack.array),
        "brain": stack.mask,
        "tumour": tumour,
    }.items():
        np.save(folder / f"{name}.npy", array)


def _augment(
    patient: CachedPatient, level: int, recipe: Recipe, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Give one slice (3, 224, 224) and its tumour (1, 224, 224), turned, mirrored and varied alike."""
    slices = torch.from_numpy(patient.slices[level].astype(np.float32))
    brain = torch.from_numpy(patient.brain[level].astype(np.float32))
    tumour = torch.from_numpy(patient.tumour[level].astype(np.float32))
    gain = 1 + recipe.intensity * random.uniform(-1, 1, (3, 1, 1)).astype(np.float32)
    offset = recipe.intensity * random.uniform(-1, 1, (3, 1, 1)).astype(np.float32)
    turned, mirrored = random.random(2) < recipe.augmented_share
    angle = math.radians(random.uniform(-1, 1) * recipe.rotation_degrees) if turned else 0.0
    mirror = -1.0 if mirrored else 1.0
    varied = (slices * torch.from_numpy(gain) + torch.from_numpy(offset)) * brain
    cosine, sine = math.cos(angle), math.sin(angle)
    # rows go from the patient's right to the left, so that the second line mirrors left and right
    turn = torch.tensor([[[cosine, -sine, 0.0], [mirror * sine, mirror * cosine, 0.0]]])
    channels = torch.cat([varied, tumour[None]])[None]
    grid = functional.affine_grid(turn, list(channels.shape), align_corners=False)
    moved = functional.grid_sample(channels, grid, align_corners=False)[0]
    return torch.from_numpy(patient.normalised(moved[:3].numpy())), (moved[3:] > 0.5).float()


def _kept(slices: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float16]:
    assert slices is not None
    largest = float(np.finfo(np.float16).max)
    return np.clip(slices, -largest, largest).astype(np.float16)
