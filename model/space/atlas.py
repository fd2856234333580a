"""BraTS space: the grid of BraTS's volumes and the head that lies in it.

Its T1 is that of the SRI24 atlas, skull-stripped (Rohlfing 2010); where it comes from stands beside it in
`assets/atlas-NOTICE.txt`.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from model.space.volume import Volume, load_volume

BRATS_SHAPE = (240, 240, 155)
"""Voxels of 1 mm: i from the patient's right to the left, j from anterior to posterior, k upwards."""

BRATS_AFFINE = np.array(
    [[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 239.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
BRATS_AFFINE.flags.writeable = False

ATLAS_PATH = Path(__file__).parents[1] / "assets" / "atlas.nii.gz"


@lru_cache(maxsize=1)
def load_atlas() -> Volume:
    """Read the atlas's T1, 0 outside the brain, once a process; do not write to it."""
    return load_volume(ATLAS_PATH)
