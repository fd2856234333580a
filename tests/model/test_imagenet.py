import subprocess

import numpy as np
import pytest
import torch
from torch import nn

from model.network import AttentionVGG16
from model.training import imagenet
from model.training.imagenet import (
    GREY_LEVELS_PER_UNIT,
    ImageNetWeightsError,
    fetch_onnx,
    read_convolutions,
    start_from_imagenet,
)
from model.wheels import WheelError

SHAPES = [
    (layer.out_channels, layer.in_channels)
    for layer in AttentionVGG16(batch_norm=False).backbone()
    if isinstance(layer, nn.Conv2d)
]


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name, array):
    dims = b"".join(field(1, size) for size in array.shape)
    return field(5, dims + field(2, 1) + field(8, name.encode()) + field(9, array.astype("<f4").tobytes()))


def onnx_file(layers):
    """An ONNX file as far as its initialisers go, with fields around them that must be stepped over."""
    initialisers = b"".join(
        tensor(f"net/{name}_1/convolution", weight) + tensor(f"net/{name}_1/Squeeze:0", bias)
        for name, (weight, bias) in layers.items()
    )
    other = field(5, field(1, 4) + field(2, 7) + field(8, b"net/const") + field(9, bytes(32)))
    return field(1, 9) + varint(9 << 3 | 5) + bytes(4) + field(7, field(2, b"graph") + other + initialisers)


@pytest.fixture(scope="module")
def convolutions():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(out, into, 3, 3, generator=generator) * 50 / into, torch.randn(out, generator=generator))
        for out, into in SHAPES
    ]


def test_initialisers_are_read_in_the_networks_order(convolutions):
    names = reversed(imagenet._LAYERS)
    layers = {
        name: (w.numpy(), b.numpy()) for name, (w, b) in zip(names, reversed(convolutions), strict=True)
    }
    found = read_convolutions(onnx_file(layers))
    for (weight, bias), (expected_weight, expected_bias) in zip(found, convolutions, strict=True):
        torch.testing.assert_close(weight, expected_weight, rtol=0, atol=0)
        torch.testing.assert_close(bias, expected_bias, rtol=0, atol=0)


def test_a_file_without_all_layers_is_refused():
    layers = {"block1_conv1": (np.zeros((64, 3, 3, 3)), np.zeros(64))}
    with pytest.raises(ImageNetWeightsError, match="thirteen"):
        read_convolutions(onnx_file(layers))


def test_rescaled_layers_give_the_same_features_up_to_a_factor(convolutions):
    network = AttentionVGG16(batch_norm=False).eval()
    slices = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    start_from_imagenet(network, convolutions, slices)
    features, expected = slices, slices.flip(1) * GREY_LEVELS_PER_UNIT
    source = iter(convolutions)
    with torch.inference_mode():
        for layer in list(network.backbone())[:10]:
            if isinstance(layer, nn.Conv2d):
                weight, bias = next(source)
                expected = torch.relu(nn.functional.conv2d(expected, weight, bias, padding=1))
            elif isinstance(layer, nn.MaxPool2d):
                expected = layer(expected)
            features = layer(features)
    factor = expected.max() / features.max()
    torch.testing.assert_close(features * factor, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert 0.3 < features.std() < 3


def test_a_download_that_fails_is_told_in_one_error(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "no route to host")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WheelError, match="no route to host"):
        fetch_onnx()
