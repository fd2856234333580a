"""What the network sees of one patient: 56 slices of BraTS space."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.grade import Contrast
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE
from model.space.volume import Affine

ROWS = COLUMNS = 224
SLICES = range(50, 106)
"""Levels k of BraTS space that are shown: the first and last 50 are left out (Sabahuddin and Gutta)."""

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """What the network sees of one patient.

    `array` is float32 (slice, contrast, row, column), contrasts in the order of `Contrast`, in robust
    z-scores of the brain, 0 outside it. `mask` is bool (slice, row, column). `affine` maps (slice, row,
    column) to RAS+ mm of BraTS space. Slices go from inferior to superior, rows from the patient's right to
    the left, columns from anterior to posterior: an untransposed axial slice of a BraTS array. Exchange rows
    and columns to show a slice as a radiologist does.

    `intensities`, like `array`, are those of the series themselves, for a checkpoint that normalises by the
    statistics of its training set; they are kept where they were asked for.
    """

    array: Array
    mask: Mask
    affine: Affine
    intensities: Array | None = None

    def __post_init__(self) -> None:
        slices = len(self.array)
        if self.array.shape != (slices, len(Contrast), ROWS, COLUMNS):
            raise ValueError(
                f"a stack is (slice, {len(Contrast)}, {ROWS}, {COLUMNS}), not {self.array.shape}"
            )
        if self.mask.shape != (slices, ROWS, COLUMNS) or self.affine.shape != (4, 4):
            raise ValueError("mask and affine do not belong to this stack")
        if self.intensities is not None and self.intensities.shape != self.array.shape:
            raise ValueError("the intensities do not belong to this stack")

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file."""
        arrays = {"array": self.array, "mask": self.mask, "affine": self.affine}
        if self.intensities is not None:
            arrays["intensities"] = self.intensities
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Stack":
        """Read what `save` wrote; ValueError where the shapes do not belong together."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["array"], file["mask"], file["affine"], file.get("intensities"))


def cut_stack(
    normalised: Mapping[Contrast, Array], mask: Mask, intensities: Mapping[Contrast, Array] | None = None
) -> Stack:
    """Cut the slices out of volumes (240, 240, 155) on the grid of BraTS and bring them to 224×224."""
    if intensities is not None:
        stack = cut_stack(normalised, mask)
        return replace(stack, intensities=cut_stack(intensities, mask).array)
    levels = slice(SLICES.start, SLICES.stop, SLICES.step)
    slices = [np.moveaxis(normalised[contrast][:, :, levels], 2, 0) for contrast in Contrast]
    shown = np.moveaxis(mask[:, :, levels], 2, 0)
    resized = _resized(np.stack([*slices, shown.astype(np.float32)], axis=1))
    brain = resized[:, -1] > 0.5
    return Stack(resized[:, :-1] * brain[:, None], brain, stack_affine())


def stack_affine() -> Affine:
    """Where (slice, row, column) lies in BraTS space, RAS+ mm."""
    to_brats = np.zeros((4, 4))
    to_brats[2, 0], to_brats[2, 3] = SLICES.step, SLICES.start
    for axis, count in ((0, ROWS), (1, COLUMNS)):
        width = BRATS_SHAPE[axis] / count
        to_brats[axis, axis + 1], to_brats[axis, 3] = width, (width - 1) / 2
    to_brats[3, 3] = 1
    return BRATS_AFFINE @ to_brats


def _resized(slices: Array) -> Array:
    """Bring slices (n, channel, 240, 240) to (n, channel, 224, 224) by linear interpolation."""
    for axis, count in ((2, ROWS), (3, COLUMNS)):
        old = slices.shape[axis]
        centres = np.clip((np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1)
        below = np.minimum(centres.astype(int), old - 2)
        share = np.expand_dims((centres - below).astype(np.float32), tuple(range(1, 4 - axis)))
        slices = slices.take(below, axis) * (1 - share) + slices.take(below + 1, axis) * share
    return slices
