"""Grids in the patient, smooth random fields on them, and trilinear sampling, in torch.

Axes are (i, j, k) = right→left… as their origin and step say; positions are RAS+ mm.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Vector = npt.NDArray[np.float64]
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A regular grid along the RAS axes: `shape` (i, j, k), `origin_mm` of its first voxel, one `step_mm`."""

    shape: Shape
    origin_mm: Vector
    step_mm: float = 1.0

    def positions(self) -> Tensor:
        """RAS+ mm of each voxel, float32 (3, i, j, k)."""
        axes = [
            torch.arange(count, dtype=torch.float32) * self.step_mm + float(start)
            for count, start in zip(self.shape, self.origin_mm, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def coarse(self, step: int) -> "Grid":
        """Return a grid `step` times as wide that covers this one."""
        i, j, k = (-(-(count - 1) // step) + 1 for count in self.shape)
        return Grid((i, j, k), self.origin_mm, self.step_mm * step)

    def noise(self, rng: np.random.Generator, scale_mm: float, channels: int = 1) -> Tensor:
        """Smooth normal noise with features of `scale_mm`, mean 0, deviation 1: (channels, i, j, k)."""
        size = [int(count * self.step_mm / scale_mm * 1.5) + 7 for count in self.shape]
        lattice = torch.from_numpy(rng.standard_normal((1, channels, *size), dtype=np.float32))
        smooth = functional.avg_pool3d(functional.avg_pool3d(lattice, 3, 1), 3, 1)
        return resize(smooth[0] / smooth.std(), self.shape)

    def part(self, centre_mm: Vector, reach_mm: float) -> tuple[slice, slice, slice]:
        """Index box of the voxels within `reach_mm` of a position along each axis."""
        low = np.floor((centre_mm - reach_mm - self.origin_mm) / self.step_mm).astype(int)
        high = np.ceil((centre_mm + reach_mm - self.origin_mm) / self.step_mm).astype(int) + 1
        i, j, k = (
            slice(max(int(first), 0), min(int(last), count))
            for first, last, count in zip(low, high, self.shape, strict=True)
        )
        return i, j, k


def transform(matrix: npt.ArrayLike, vectors: Tensor) -> Tensor:
    """Multiply each of the vectors, float32 (3, …), by a matrix (3, 3).

    Written out, since BLAS may round the same product differently from one call to the next.
    """
    x, y, z = vectors
    rows = np.asarray(matrix, dtype=np.float64).tolist()
    return torch.stack([x * a + y * b + z * c for a, b, c in rows])


def resize(field: Tensor, shape: Shape) -> Tensor:
    """Trilinear, corner to corner: (channel, …) → (channel, *shape)."""
    return functional.interpolate(field[None], shape, mode="trilinear", align_corners=True)[0]


def sample(source: Tensor, grid: Grid, positions_mm: Tensor, *, edge: bool = False) -> Tensor:
    """Sample `source` (channel, i, j, k), which lies on `grid`, at RAS+ mm (3, …): (channel, …), trilinear.

    Outside the grid: 0, or with `edge` the nearest voxel of its border.
    """
    last = (torch.tensor(grid.shape) - 1).view(3, 1, 1, 1) * grid.step_mm
    origin = torch.from_numpy(grid.origin_mm).float().view(3, 1, 1, 1)
    unit = 2 * (positions_mm - origin) / last - 1
    padding = "border" if edge else "zeros"
    where = unit.flip(0).permute(1, 2, 3, 0)[None]
    return functional.grid_sample(source[None], where, padding_mode=padding, align_corners=True)[0]
