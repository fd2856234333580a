"""An ImageNet start from a state dict of torchvision's vgg16 or vgg16_bn that the user names.

These weights expect RGB of 0-1 less ImageNet's mean and divided by its standard deviation, per channel.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.network import AttentionVGG16
from model.training.imagenet import GREY_LEVELS_PER_UNIT, ImageNetWeightsError

_IMAGENET_STD = (0.229, 0.224, 0.225)
_FIRST = "0.weight"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors or a .pth of tensors alone: a pickle that would run code is refused.

    Raises `ImageNetWeightsError`.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise ImageNetWeightsError(
            f"{path} can't be read as a state dict of tensors: name torchvision's vgg16 or vgg16_bn weights"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ImageNetWeightsError(
            f"{path} holds no state dict: save `model.state_dict()` and name that file"
        )
    return state


def start_from_torchvision(network: AttentionVGG16, state: Mapping[str, Tensor]) -> None:
    """Put torchvision's `features.N` into the network's layers, in place; its classifier is left out.

    The first layer then takes normalised stacks, FLAIR, T1ce and T2 for red, green and blue: one unit stands
    for `GREY_LEVELS_PER_UNIT` grey levels, 0 for ImageNet's mean. Raises `ImageNetWeightsError`.
    """
    found = {name.removeprefix("features."): value for name, value in state.items() if "features." in name}
    layers = torch.nn.Sequential(*network.backbone())
    expected = layers.state_dict()
    differing = sorted(
        name
        for name in found.keys() | expected.keys()
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    )
    if differing:
        wanted = "vgg16_bn" if network.batch_norm else "vgg16"
        raise ImageNetWeightsError(
            f"these weights are not torchvision's {wanted} ({len(differing)} layers' tensors differ, "
            f"features.{differing[0]} first): name a state dict of {wanted}"
        )
    std = torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1)
    found[_FIRST] = found[_FIRST] * (GREY_LEVELS_PER_UNIT / 255) / std
    layers.load_state_dict(found)
