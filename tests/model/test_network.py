import pytest
import torch
from torch import nn

from model.network import AttentionModule, AttentionVGG16


@pytest.mark.parametrize(("batch_norm", "expected"), [(False, 15_176_516), (True, 15_184_964)])
def test_parameter_count_is_the_papers(batch_norm, expected):
    network = AttentionVGG16(batch_norm=batch_norm)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize(
    ("part", "plain", "normalised"),
    [
        ("block1", 38_720, 38_976),
        ("block2", 221_440, 221_952),
        ("block3", 1_475_328, 1_476_864),
        ("block4", 5_899_776, 5_902_848),
        ("block5", 7_079_424, 7_082_496),
        ("attention3", 196_865, 196_865),
        ("attention4", 262_401, 262_401),
        ("head", 2_562, 2_562),
    ],
)
def test_each_part_has_the_papers_parameters(part, plain, normalised):
    for batch_norm, expected in ((False, plain), (True, normalised)):
        module = getattr(AttentionVGG16(batch_norm=batch_norm), part)
        assert sum(parameter.numel() for parameter in module.parameters()) == expected


@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_stage_has_its_shape(batch_norm):
    network = AttentionVGG16(batch_norm=batch_norm).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_children():
        if name.startswith("block"):
            module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: out.shape}))
    with torch.inference_mode():
        output = network(torch.zeros(2, 3, 224, 224))
    assert shapes == {
        "block1": (2, 64, 112, 112),
        "block2": (2, 128, 56, 56),
        "block3": (2, 256, 28, 28),
        "block4": (2, 512, 14, 14),
        "block5": (2, 512, 7, 7),
    }
    assert output.logits.shape == (2, 2)
    assert output.a3.shape == (2, 1, 28, 28)
    assert output.a4.shape == (2, 1, 14, 14)


def test_attention_lies_between_0_and_1(network):
    with torch.inference_mode():
        output = network(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)))
    for attention in (output.a3, output.a4):
        assert 0 <= attention.min() <= attention.max() <= 1
        assert attention.std() > 0


def test_attention_module_computes_its_equation():
    torch.manual_seed(2)
    module = AttentionModule(3, 5)
    assert module.score.bias is not None
    features, gate = torch.randn(1, 3, 4, 4), torch.randn(1, 5, 1, 1)
    vector, attention = module(features, gate)
    w_f, w_g = module.feature.weight[:, :, 0, 0], module.gate.weight[:, :, 0, 0]
    row, column = 1, 2
    hidden = torch.relu(w_f @ features[0, :, row, column] + w_g @ gate[0, :, 0, 0])
    expected = torch.sigmoid(module.score.weight[0, :, 0, 0] @ hidden + module.score.bias[0])
    torch.testing.assert_close(attention[0, 0, row, column], expected)
    weighted = torch.stack([attention[0, 0, r, c] * features[0, :, r, c] for r in range(4) for c in range(4)])
    torch.testing.assert_close(vector[0], weighted.mean(dim=0))


def test_head_reads_g_then_f3_then_f4(network):
    seen: list[torch.Tensor] = []
    hook = network.head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    pooled: list[torch.Tensor] = []
    hook5 = network.block5.register_forward_hook(lambda _m, _i, out: pooled.append(out.mean(dim=(2, 3))))
    with torch.inference_mode():
        f3, f4 = network.features(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(3)))
        _, a3, a4 = network.grade_features(f3, f4)
    hook.remove()
    hook5.remove()
    torch.testing.assert_close(seen[0][:, :512], pooled[0])
    torch.testing.assert_close(seen[0][:, 512:768], (a3 * f3).mean(dim=(2, 3)))
    torch.testing.assert_close(seen[0][:, 768:], (a4 * f4).mean(dim=(2, 3)))


def test_backbone_is_vgg16_in_order(network):
    layers = list(network.backbone())
    widths = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)] == [
        4,
        9,
        16,
        23,
        30,
    ]
