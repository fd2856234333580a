"""Rigid registration: picsl-greedy first, SimpleITK's Mattes metric where its answer is not good enough.

Whole heads go in: a brain mask in the metric makes both tools fail. A transform is a 4×4 matrix that maps
RAS+ mm of the moving volume to RAS+ mm of the fixed one.
"""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - as everyone calls it
from scipy import ndimage
from scipy.spatial.transform import Rotation

from model.space.itk import LPS, to_itk
from model.space.volume import Affine, Volume

_log = logging.getLogger(__name__)

_WORKING_MM = 1.5
_COARSE_MM = 3.0
_PATIENCE_S = 300
_BINS, _SAMPLED_SHARE = 50, 0.2

Vector = npt.NDArray[np.float64]
Score = Callable[[Affine], float]
"""How alike two volumes are under a transform; more is better."""


class RegistrationError(Exception):
    """Neither tool gave an answer; trying again can help only where memory was short."""


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """A rigid transform from moving to fixed, and its score."""

    transform: Affine
    score: float


def register(
    fixed: Volume,
    moving: Volume,
    starts: Sequence[Affine],
    score: Score,
    good_score: float,
    threads: int = 1,
) -> Registration:
    """Find the rigid transform of the best score, from one start after the other.

    Ends as soon as the score is good; SimpleITK tries last, from the first start.
    """
    target, source = _coarsened(fixed), _coarsened(moving)
    # no tool may make it worse than it was
    best = max((Registration(start, score(start)) for start in starts), key=lambda unmoved: unmoved.score)
    answers = 0
    for tool, start in [*((_greedy, start) for start in starts), (_mattes, starts[0])]:
        # what is moved beforehand needs no start: each tool looks about the identity
        try:
            transform = tool(target, source.moved(start), threads) @ start
        except (subprocess.SubprocessError, RuntimeError) as error:  # what ITK raises too
            _log.warning("%s failed: %s", tool.__name__, type(error).__name__)
            continue
        answers += 1
        found = Registration(transform, score(transform))
        if found.score > best.score:
            best = found
        if found.score >= good_score:
            break
    if not answers:
        raise RegistrationError("no tool could register these volumes")
    return best


def register_brains(fixed: Volume, moving: Volume, threads: int = 1) -> Affine:
    """Find the rigid transform between two volumes of nothing but brain, from their centres on."""
    start = shift_between(*(centre_mm(volume) for volume in (moving, fixed)))
    return np.asarray(_greedy(_coarsened(fixed), _coarsened(moving).moved(start), threads) @ start)


def centre_mm(volume: Volume) -> Vector:
    """Give the centre of what is above one half of the volume's maximum, RAS+ mm."""
    centre = np.argwhere(volume.array > volume.array.max() / 2).mean(axis=0)
    return np.asarray(volume.affine[:3, :3] @ centre + volume.affine[:3, 3])


def shift_between(
    moving_centre_mm: npt.NDArray[np.float64], fixed_centre_mm: npt.NDArray[np.float64]
) -> Affine:
    """Give the translation that brings one place onto the other."""
    transform = np.eye(4)
    transform[:3, 3] = fixed_centre_mm - moving_centre_mm
    return transform


def rotation_degrees(transform: Affine) -> float:
    """Angle by which a rigid transform turns."""
    return float(np.rad2deg(Rotation.from_matrix(transform[:3, :3]).magnitude()))


def _coarsened(volume: Volume, spacing_mm: float = _WORKING_MM) -> Volume:
    """Average finer voxels: 1.5 mm is enough to estimate six numbers by, at half the cost of 1 mm."""
    step = np.maximum(1.0, spacing_mm / volume.spacing_mm)
    if (step < 1.05).all():
        return volume
    smooth = ndimage.gaussian_filter(volume.array, np.where(step > 1.05, 0.4 * step, 0))
    i, j, k = (int(count) for count in np.floor((np.array(volume.array.shape) - 1) / step) + 1)
    return Volume(smooth, volume.affine).resample((i, j, k), volume.affine @ np.diag([*step, 1.0]))


def _greedy(fixed: Volume, moving: Volume, threads: int) -> Affine:
    """Normalised mutual information by picsl-greedy, coarse to fine, with its random seed fixed."""
    with TemporaryDirectory(prefix="gliograde-") as folder:
        path = Path(folder, "volumes.npz")
        np.savez(
            path,
            fixed=fixed.array,
            fixed_affine=fixed.affine,
            moving=moving.array,
            moving_affine=moving.affine,
        )
        command = [sys.executable, "-m", "model.space.greedy_child", str(path), str(threads)]
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)  # noqa: S603 no outside text
        return np.asarray(np.linalg.inv(np.load(path.with_suffix(".npy"))))


def _mattes(fixed_volume: Volume, moving_volume: Volume, threads: int) -> Affine:
    """Mattes's mutual information of a fifth of the voxels, at 3 mm, smooth to sharp."""
    coarse = (_coarsened(volume, _COARSE_MM) for volume in (fixed_volume, moving_volume))
    fixed, moving = (to_itk(volume.array, volume.affine) for volume in coarse)
    centre = np.array(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    found = sitk.Euler3DTransform()
    found.SetCenter(centre.tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLED_SHARE, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 200, 0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([1, 1])
    method.SetSmoothingSigmasPerLevel([6, 2])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(found, inPlace=True)
    method.Execute(fixed, moving)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(found.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(found.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return np.asarray(np.linalg.inv(LPS @ matrix @ LPS))
