import pytest
import torch

from model.network import AttentionVGG16
from model.training.imagenet import GREY_LEVELS_PER_UNIT, ImageNetWeightsError
from model.training.torchvision_start import read_state_dict, start_from_torchvision


def torchvision_state(batch_norm):
    torch.manual_seed(5)
    layers = torch.nn.Sequential(*AttentionVGG16(batch_norm=batch_norm).backbone())
    state = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    return layers.eval(), {**state, "classifier.0.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_features_are_torchvisions_on_its_own_input(tmp_path, batch_norm):
    layers, state = torchvision_state(batch_norm)
    torch.save(state, tmp_path / "vgg.pth")
    network = AttentionVGG16(batch_norm=batch_norm).eval()
    start_from_torchvision(network, read_state_dict(tmp_path / "vgg.pth"))
    stack = torch.randn(1, 3, 224, 224)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.inference_mode():
        f4 = network.features(stack)[1]
        expected = layers[: 34 if batch_norm else 24](stack * GREY_LEVELS_PER_UNIT / 255 / std)
    torch.testing.assert_close(f4, expected, rtol=1e-3, atol=1e-3)


def test_the_other_variant_is_refused_in_words():
    _, state = torchvision_state(batch_norm=False)
    with pytest.raises(ImageNetWeightsError, match="name a state dict of vgg16_bn"):
        start_from_torchvision(AttentionVGG16(batch_norm=True), state)


def test_files_that_are_no_state_dict_are_refused(tmp_path):
    with pytest.raises(ImageNetWeightsError, match="can't be read"):
        read_state_dict(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ImageNetWeightsError, match="holds no state dict"):
        read_state_dict(tmp_path / "list.pth")
