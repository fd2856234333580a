"""The network compiled for a CPU by OpenVINO: the same weights and, within rounding, the same answers.

The graph is built layer by layer from the torch network, so that nothing has to be traced, exported or
written to disk. What it gains is measured by benchmarks/inference.py.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.network import INPUT_SIZE, AttentionModule, AttentionVGG16, NetworkOutput

# openvino reports its import to its makers over the network; without this module it can't
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402
import openvino.opset13 as op  # noqa: E402

_SPATIAL = [2, 3]


class CpuNetwork:
    """Grades slices as the `AttentionVGG16` that it was made from does in evaluation mode."""

    def __init__(self, network: AttentionVGG16, threads: int, *, bfloat16: bool = False) -> None:
        """Compile a network that is on the CPU in evaluation mode; `threads` is how many it may use.

        With `bfloat16` a CPU that can multiplies in 16 bits, and sums in 32; any other does as without.
        """
        slices = op.parameter([-1, 3, INPUT_SIZE, INPUT_SIZE], np.float32)
        core = _core()
        self.bfloat16 = bfloat16 and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if self.bfloat16 else "f32"
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        graph = ov.Model(_outputs(network, slices), [slices])
        self._compiled = core.compile_model(graph, "CPU", options)

    def __call__(self, slices: Tensor) -> NetworkOutput:
        """Grade n slices, float32 (n, 3, 224, 224)."""
        answers = self._compiled([slices.contiguous().numpy()])
        return NetworkOutput(*(torch.from_numpy(answers[index].copy()) for index in range(3)))


def _core() -> ov.Core:
    """A core with its CPU plugin loaded in a thread of its own.

    A plugin gives the thread that loads it a stack for signals, and unmaps it when it goes. Of two in one
    thread the last to go puts back the other's, which is unmapped by then: the next signal that Python
    handles ends the process.
    """
    core = ov.Core()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(core.get_versions, "CPU").result()
    return core


def _outputs(network: AttentionVGG16, slices: ov.Node) -> list[ov.Node]:
    f3, f4, g = slices, slices, slices
    for block in (network.block1, network.block2, network.block3):
        f3 = _layers(block, f3)
    f4 = _layers(network.block4, f3)
    g = _layers(network.block5, f4)
    v3, a3 = _attention(network.attention3, f3, g)
    v4, a4 = _attention(network.attention4, f4, g)
    features = op.concat([_mean(g), v3, v4], 1)
    head = network.head
    logits = op.add(op.matmul(features, _constant(head.weight), False, True), _constant(head.bias[None]))
    return [logits, a3, a4]


def _layers(block: nn.Sequential, x: ov.Node) -> ov.Node:
    layers = list(block)
    for index, layer in enumerate(layers):
        match layer:
            case nn.Conv2d():
                after = layers[index + 1]
                if isinstance(after, nn.BatchNorm2d):
                    layer = fuse_conv_bn_eval(layer, after)  # noqa: PLW2901
                x = _convolution(layer, x)
            case nn.ReLU():
                x = op.relu(x)
            case nn.MaxPool2d():
                x = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    return x


def _attention(module: AttentionModule, features: ov.Node, gate: ov.Node) -> tuple[ov.Node, ov.Node]:
    size = features.get_partial_shape()
    raised = op.interpolate(
        _convolution(module.gate, gate),
        [size[axis].get_length() for axis in _SPATIAL],
        "linear_onnx",
        "sizes",
        coordinate_transformation_mode="half_pixel",
        axes=_SPATIAL,
    )
    joined = op.relu(op.add(_convolution(module.feature, features), raised))
    attention = op.sigmoid(_convolution(module.score, joined))
    return _mean(op.multiply(features, attention)), attention


def _mean(x: ov.Node) -> ov.Node:
    return op.reduce_mean(x, _SPATIAL)


def _convolution(layer: nn.Conv2d, x: ov.Node) -> ov.Node:
    pad = list(layer.padding)
    y = op.convolution(x, _constant(layer.weight), [1, 1], pad, pad, [1, 1])
    return y if layer.bias is None else op.add(y, _constant(layer.bias[None, :, None, None]))


def _constant(values: Tensor) -> ov.Node:
    return op.constant(values.detach().float().contiguous().numpy())
