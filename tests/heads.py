"""A brain that the whole chain accepts and that is cheap: the atlas on coarse voxels, as four series."""

from functools import lru_cache

import numpy as np

from model.space.atlas import load_atlas
from model.space.volume import Volume

PIXEL_MM, SLICE_MM, SLICES = 4.0, 12.0, 12
_SHAPE = (40, 48, SLICES)
_CENTRE_MM = np.array([-119.0, 109.0, 73.0])  # of the atlas's brain


@lru_cache(maxsize=8)
def coarse_brain(seed=0):
    """FLAIR, T1, T1ce and T2 of a skull-stripped brain, 0 outside it; `seed` is that of the noise.

    T1ce is T1 with bright spots: vessels that took up contrast agent.
    """
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, SLICE_MM, 1.0])
    affine[:3, 3] = _CENTRE_MM - affine[:3, :3] @ ((np.array(_SHAPE) - 1) / 2)
    t1 = load_atlas().resample(_SHAPE, affine).array / 864
    # where the atlas lies is nobody's scanner: this head lies about the scanner's centre
    affine = affine.copy()
    affine[:3, 3] -= _CENTRE_MM
    brain = t1 > 0.1
    noise = np.random.default_rng(seed).normal(0, 0.01, (4, *_SHAPE))
    vessels = np.zeros(_SHAPE)
    vessels[::4, ::4, ::3] = 0.8
    images = {
        "flair": 0.3 + 1.6 * t1 * (1.15 - t1),
        "t1ce": t1 + vessels,
        "t2": 1.2 - t1,
        "t1": t1,
    }
    return {
        name: Volume((np.clip(image + grain, 0.05, None) * 800 * brain).astype(np.float32), affine)
        for (name, image), grain in zip(images.items(), noise, strict=True)
    }
