"""Patients without their tumour: what a network can still tell of them, it tells by a shortcut.

The tumour goes before the volumes are normalised and cut into slices, so that neither its rim, nor its
slices above and below, nor its share in median and MAD are left to be seen.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from model.cohorts.brats import TUMOUR_LABELS
from model.space.preprocess import Placed, build_stack
from model.space.stack import Stack

MARGIN_MM = 8
"""How far around the tumour is taken for tumour: its rim and what it pushes aside."""
SEAM_MM = 4
"""Over which what replaces the tumour passes into what is left."""

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]


def blanked(placed: Placed, labels: npt.NDArray[np.uint8]) -> Stack:
    """Give the stack of a patient whose tumour, `MARGIN_MM` wider, is the median of what is left.

    `labels` is the segmentation, (240, 240, 155). Raises PreprocessingError where little is left.
    """
    gone = distance_mm(np.isin(labels, TUMOUR_LABELS)) <= MARGIN_MM
    arrays = {contrast: np.where(gone, np.nan, array) for contrast, array in placed.arrays.items()}
    return build_stack(Placed(arrays, placed.mask), keep_intensities=True)


def mirrored(placed: Placed, labels: npt.NDArray[np.uint8]) -> Stack:
    """Give the stack of a patient whose tumour, `MARGIN_MM` wider, is what the other hemisphere has there.

    Where that too is tumour, or no brain, it is the median of what is left. Raises PreprocessingError where
    little is left.
    """
    distance = distance_mm(np.isin(labels, TUMOUR_LABELS))
    known = placed.mask & (distance > MARGIN_MM)
    share = np.clip((MARGIN_MM + SEAM_MM - distance) / SEAM_MM, 0, 1)
    other_known = _reflected(known, placed.mask)
    arrays = {}
    for contrast, array in placed.arrays.items():
        other = np.where(other_known, _reflected(array, placed.mask), np.nan)
        # beyond the margin the patient's own stands where the other side knows nothing
        mixed = np.where(np.isnan(other) & known, array, share * other + (1 - share) * array)
        arrays[contrast] = np.where(share > 0, mixed, array).astype(np.float32)
    return build_stack(Placed(arrays, placed.mask), keep_intensities=True)


def distance_mm(tumour: Mask) -> Array:
    """Distance of each voxel of 1 mm to the nearest one of the tumour; infinite where it doesn't matter."""
    reach = MARGIN_MM + SEAM_MM + 1
    distance = np.full(tumour.shape, np.inf, np.float32)
    found = ndimage.find_objects(tumour.astype(np.int8))
    if found:
        box = tuple(
            slice(max(0, part.start - reach), part.stop + reach) for part in found[0]
        )  # slices may reach over the end
        distance[box] = ndimage.distance_transform_edt(~tumour[box])
    return distance


def _reflected(array: npt.NDArray[np.generic], brain: Mask) -> npt.NDArray[np.generic]:
    """Exchange left and right about the middle of the brain, to half a voxel."""
    places = np.flatnonzero(brain.any(axis=(1, 2)))
    weights = brain.sum(axis=(1, 2))[places]
    twice_the_middle = round(2 * float(np.average(places, weights=weights)))
    here = np.arange(len(array))
    return array[np.clip(twice_the_middle - here, 0, len(array) - 1)]
