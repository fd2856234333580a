"""A volume: three-dimensional voxels with their place in the patient."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels with axes (i, j, k) and the 4×4 affine that maps their indices to RAS+ millimetres.

    `array` is float32 of shape (i, j, k). Index (0, 0, 0) is the centre of the first voxel.
    """

    array: npt.NDArray[np.float32]
    affine: Affine

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has 3 axes, not {self.array.ndim}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4×4, not {self.affine.shape}")

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Distance between voxel centres along i, j, k in millimetres, shape (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def moved(self, transform: npt.NDArray[np.floating[Any]]) -> "Volume":
        """Give the same voxels elsewhere: `transform` maps RAS+ mm here to RAS+ mm there."""
        return Volume(self.array, np.asarray(transform @ self.affine, dtype=np.float64))

    def place_of(self, index: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """RAS+ millimetres of a voxel index (i, j, k), whole or not, shape (3,)."""
        return np.asarray(self.affine[:3, :3] @ index + self.affine[:3, 3])

    def index_of(self, place_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Voxel index of a place in RAS+ millimetres, shape (3,); `place_of` turned round."""
        return np.asarray(np.linalg.solve(self.affine[:3, :3], place_mm - self.affine[:3, 3]))

    def resample(self, shape: tuple[int, int, int], affine: Affine, fill: float = 0.0) -> "Volume":
        """Trilinear samples of this volume on the grid given by `shape` and `affine` (index → RAS+ mm)."""
        # Rounding keeps the first and last slice, which an error of 1e-15 would put outside.
        to_here = np.round(np.linalg.inv(self.affine) @ affine, 9)
        array = ndimage.affine_transform(
            self.array,
            to_here[:3, :3],
            to_here[:3, 3],
            output_shape=shape,
            order=1,
            mode="constant",
            cval=fill,
        )
        return Volume(array.astype(np.float32, copy=False), affine)


def load_volume(path: Path) -> Volume:
    """Read a NIfTI file; the affine is the file's own (NIfTI stores RAS+ mm)."""
    image = nib.Nifti1Image.from_filename(path)
    return Volume(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=np.float64))


def save_volume(volume: Volume, path: Path) -> None:
    """Write a NIfTI-1 file, uncompressed when `path` ends in .nii."""
    image = nib.Nifti1Image(volume.array, volume.affine)  # type: ignore[no-untyped-call] # nibabel's own gap
    nib.save(image, path)
