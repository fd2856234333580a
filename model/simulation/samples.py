"""Slices to train on, from simulated patients."""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from model.grade import Contrast, Grade
from model.network import CLASS_ORDER
from model.simulation.simulate import Parameters, simulate_case, tumour_mask_on
from model.simulation.template import Head, typical_to_atlas
from model.space.brain_mask import foreground
from model.space.preprocess import build_stack, place
from model.space.stack import Stack

Mask = npt.NDArray[np.bool_]

NO_GRADE = -1
_LEAST_TUMOUR_PIXELS = 100
_TUMOUR_FREE = (18, 19)
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


def simulated_patient(seed: int, head: Head = Head.MNI152) -> tuple[Stack, Mask, Parameters]:
    """Simulate the brain of this seed: stack, where its tumour is, bool (slice, row, column), what was drawn.

    All patients go to BraTS space by one transform, that of the typical brain, so that each keeps its own
    pose of a few degrees and millimetres: wider than what registration leaves, at none of its cost.
    """
    case = simulate_case(seed, grade_of(seed), brain_only=True, head=head)
    brain = foreground(case.volumes[Contrast.T1CE])
    assert brain is not None
    to_atlas = typical_to_atlas()
    stack = build_stack(place(case.volumes, brain, dict.fromkeys(Contrast, to_atlas)))
    return stack, tumour_mask_on(stack, case, to_atlas) & stack.mask, dict(case.parameters)


def draw_samples(seed: int, with_tumour: int, without_tumour: int) -> Samples:
    """Draw slices of the patient of this seed; fewer where it has fewer of a kind."""
    random = np.random.default_rng(seed)
    grade = grade_of(seed)
    stack, tumour, _ = simulated_patient(seed, training_head(seed))
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


def draw_many(seeds: Sequence[int], with_tumour: int, without_tumour: int, executor: Executor) -> Samples:
    """Draw the samples of several patients at a time, in the order of their seeds."""
    return Samples.join(list(executor.map(draw_samples, seeds, repeat(with_tumour), repeat(without_tumour))))


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
