"""Folders as BraTS lays them out, with the atlas for a brain."""

import numpy as np

from model.space.atlas import BRATS_AFFINE, load_atlas
from model.space.volume import Volume, save_volume

SEQUENCES = ("flair", "t1ce", "t2")


def write_case(folder, *, sequences=SEQUENCES, empty=False, enhancing=0, change=None, suffix=".nii"):
    """Write one patient; `empty` files will do for what doesn't read them.

    Tumour of 40×40×30 mm, of which `enhancing` levels take up contrast agent.
    """
    folder.mkdir(parents=True)
    if empty:
        for sequence in sequences:
            (folder / f"{folder.name}_{sequence}{suffix}").touch()
        return folder
    t1 = load_atlas().array.astype(np.float32) / 864
    labels = np.zeros(t1.shape, np.float32)
    labels[90:130, 90:130, 60:90] = 2 * (t1[90:130, 90:130, 60:90] > 0)
    labels[..., 60 : 60 + enhancing][labels[..., 60 : 60 + enhancing] > 0] = 4
    brain = t1 > 0.1
    images = {
        "flair": (0.3 + 1.6 * t1 * (1.15 - t1)) * brain + (labels > 0),
        "t1ce": t1 * brain + (labels == 4),
        "t2": (1.2 - t1) * brain + (labels > 0),
    }
    for sequence in sequences:
        array = (800 * images[sequence]).astype(np.float32)
        if change:
            array = change(sequence, array)
        save_volume(Volume(array, BRATS_AFFINE), folder / f"{folder.name}_{sequence}{suffix}")
    save_volume(Volume(labels, BRATS_AFFINE), folder / f"{folder.name}_seg{suffix}")
    return folder
