"""Slices to train on, from simulated patients."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from model.grade import Contrast, Grade
from model.network import CLASS_ORDER
from model.simulation.lesion import Form
from model.simulation.simulate import Parameters, SimulatedCase, simulate_case, tumour_mask_on
from model.simulation.template import Head, typical_to_atlas
from model.space.brain_mask import foreground
from model.space.preprocess import Placed, build_stack, place
from model.space.stack import Stack

Mask = npt.NDArray[np.bool_]

NO_GRADE = -1
_LEAST_TUMOUR_PIXELS = 100
_TUMOUR_FREE = (18, 19)
_HARD_FORMS = {Form.AFTER_SURGERY: 3, Form.SMALL: 3, Form.INFRATENTORIAL: 1}
"""Those on which attention lies worst, and how often each is drawn against the others."""
_MAXIMUM_ROTATION_DEGREES = 10.0
_SIZES = (0.9, 1.1)
_GAINS, _OFFSETS = (0.7, 1.4), (-0.3, 0.3)
_DETAIL_PIXELS, _DETAILS = (0.5, 1.5), (-0.9, 0.9)
_MAXIMUM_NOISE = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Slices of some patients.

    `slices` is float16 (n, 3, 224, 224) as in a stack; `brain` and `masks` are bool (n, 224, 224), where the
    brain and where the tumour is. `labels` is int64 (n,), the index into `CLASS_ORDER`, or `NO_GRADE` where
    too little tumour is seen.
    """

    slices: npt.NDArray[np.float16]
    brain: Mask
    masks: Mask
    labels: npt.NDArray[np.int64]

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Put samples one after the other."""
        return cls(
            np.concatenate([part.slices for part in parts]),
            np.concatenate([part.brain for part in parts]),
            np.concatenate([part.masks for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


def grade_of(seed: int) -> Grade | None:
    """Give the grade that the simulated patient of this seed has; every tenth has no tumour."""
    return None if seed % 20 in _TUMOUR_FREE else CLASS_ORDER[seed % 2]


def training_head(seed: int) -> Head:
    """Give the head that a patient to learn from varies: each of the two for both grades."""
    return Head.MNI152_BY_T1 if seed // 2 % 2 else Head.MNI152


def hard_form(seed: int, share: float) -> Form | None:
    """Give `share` of the seeds a form that is hard to see; the others None: what is drawn by grade."""
    random = np.random.default_rng((seed, 1))
    forms = [form for form, times in _HARD_FORMS.items() for _ in range(times)]
    return forms[random.integers(len(forms))] if random.random() < share else None


class SimulatedPatient(NamedTuple):
    """A stack and where its tumour is, bool (slice, row, column), with what was drawn of the patient.

    `without` is the stack with something else in the tumour's place, where a control asks for it.
    """

    stack: Stack
    tumour: Mask
    drawn: Parameters
    without: Stack | None = None


def simulate_in_space(seed: int, head: Head, form: Form | None = None) -> tuple[SimulatedCase, Placed]:
    """Simulate the brain of this seed, and place its series in BraTS space.

    All patients go there by one transform, that of the typical brain, so that each keeps its own pose of a
    few degrees and millimetres: wider than what registration leaves, at none of its cost.
    """
    case = simulate_case(seed, grade_of(seed), brain_only=True, head=head, form=form)
    brain = foreground(case.volumes[Contrast.T1CE])
    assert brain is not None
    return case, place(case.volumes, brain, dict.fromkeys(Contrast, typical_to_atlas()))


def as_shown(case: SimulatedCase, placed: Placed) -> SimulatedPatient:
    """Cut a placed patient into the stack that the network is shown, and find the tumour on it."""
    stack = build_stack(placed)
    tumour = tumour_mask_on(stack, case, typical_to_atlas()) & stack.mask
    return SimulatedPatient(stack, tumour, dict(case.parameters))


def simulated_patient(seed: int, head: Head = Head.MNI152, form: Form | None = None) -> SimulatedPatient:
    """Simulate the patient of this seed, with the grade that the seed has."""
    return as_shown(*simulate_in_space(seed, head, form))


def draw_samples(seed: int, with_tumour: int, without_tumour: int, hard: float = 0.0) -> Samples:
    """Draw slices of the patient of this seed, fewer where it has fewer; `hard` as for `hard_form`."""
    random = np.random.default_rng(seed)
    grade = grade_of(seed)
    stack, tumour, *_ = simulated_patient(seed, training_head(seed), hard_form(seed, hard))
    if grade is None:
        without_tumour += with_tumour
    seen = tumour.sum(axis=(1, 2)) >= _LEAST_TUMOUR_PIXELS
    chosen = np.concatenate(
        [
            random.choice(group, min(count, len(group)), replace=False)
            for group, count in (
                (np.flatnonzero(seen), with_tumour),
                (np.flatnonzero(~seen), without_tumour),
            )
        ]
    )
    label = NO_GRADE if grade is None else CLASS_ORDER.index(grade)
    labels = np.where(seen[chosen], label, NO_GRADE).astype(np.int64)
    return Samples(stack.array[chosen].astype(np.float16), stack.mask[chosen], tumour[chosen], labels)


def draw_many(
    seeds: Sequence[int], with_tumour: int, without_tumour: int, hard: float, executor: Executor
) -> Iterator[Samples]:
    """Draw the samples of several patients at a time, in the order of their seeds."""
    return executor.map(draw_samples, seeds, repeat(with_tumour), repeat(without_tumour), repeat(hard))


def vary(
    slices: npt.NDArray[np.float32], brain: Mask, tumour: Mask, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Vary one slice (3, 224, 224): sharpness, contrast, brightness and noise of each series, pose and size.

    Gives it and its tumour, float (1, 224, 224), 0 or 1, turned and mirrored alike.
    """
    varied = np.stack([_as_of_another_scanner(channel, random) for channel in slices]) * brain
    channels = torch.from_numpy(np.concatenate([varied, tumour[None].astype(np.float32)]))[None]
    grid = functional.affine_grid(_random_turn(random)[None], list(channels.shape), align_corners=False)
    turned = functional.grid_sample(channels, grid, align_corners=False)[0]
    return turned[:3], (turned[3:] > 0.5).float()


def _as_of_another_scanner(
    image: npt.NDArray[np.float32], random: np.random.Generator
) -> npt.NDArray[np.float32]:
    detail = image - ndimage.gaussian_filter(image, random.uniform(*_DETAIL_PIXELS))
    image = image + detail * np.float32(random.uniform(*_DETAILS))
    image = image * np.float32(random.uniform(*_GAINS)) + np.float32(random.uniform(*_OFFSETS))
    noise = random.standard_normal(image.shape, np.float32)
    return image + noise * np.float32(random.uniform(0, _MAXIMUM_NOISE))


def _random_turn(random: np.random.Generator) -> Tensor:
    """Rotation, size, and left and right exchanged in half the cases: (2, 3)."""
    angle = math.radians(random.uniform(-_MAXIMUM_ROTATION_DEGREES, _MAXIMUM_ROTATION_DEGREES))
    mirror, size = -1.0 if random.random() < 0.5 else 1.0, 1 / random.uniform(*_SIZES)
    across, along = size * math.cos(angle), size * math.sin(angle)
    return torch.tensor([[across, -along, 0.0], [mirror * along, mirror * across, 0.0]])
