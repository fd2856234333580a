"""Volumes as ITK's images."""

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - as everyone calls it

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ and LPS+, which ITK speaks, differ in two signs."""


def to_itk(array: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> sitk.Image:
    """Make an image of voxels (i, j, k) with an affine to RAS+ mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    lps = LPS @ affine
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image
