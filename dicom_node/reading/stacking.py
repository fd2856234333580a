"""Frames to a volume without dicom2nifti, for what it gets wrong.

Tried with dicom2nifti 2.6.2 on synthetic enhanced objects: it applies the first frame's rescale slope to all
frames, ignores one that stands in the shared functional groups, stops with an OverflowError at a negative
intercept, and orders frames by In-Stack Position Number where that contradicts their places. Single-frame
objects without an Instance Number end in an AttributeError. On 130 classic slices it takes 0.6 s of CPU where
this takes 0.1 s, which doesn't count beside the rest of the chain: classic series stay with the library.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.reading.frames import decode_frame, read_frames
from model.space.volume import Volume


def needs_stacking(datasets: Sequence[Dataset]) -> bool:
    """Whether dicom2nifti is known to fail on these instances of one series."""
    return any(
        "PerFrameFunctionalGroupsSequence" in dataset or not dataset.get("InstanceNumber")
        for dataset in datasets
    )


def stack_frames(datasets: Sequence[Dataset]) -> Volume:
    """Stack the frames by place; axes i, j, k are column, row, slice, the affine that of the headers.

    The frames must be the slices of one volume (`slices.stacked`). Raises FrameGeometryError and
    FrameDecodeError.
    """
    frames = read_frames(datasets)
    array = np.stack([decode_frame(frame).T for frame in frames], axis=2)
    first, last = frames[0].affine, frames[-1].affine
    affine = first[:, [1, 0, 2, 3]].copy()
    affine[:3, 2] = (last[:3, 3] - first[:3, 3]) / (len(frames) - 1)
    return Volume(array, affine)
