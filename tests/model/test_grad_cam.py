import numpy as np
import torch
from torch.nn import functional

from model.assessment.grad_cam import GradCam, grad_cam
from model.space.stack import Stack


def noise(count):
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_the_map_follows_its_equations(network):
    slices = noise(2)
    kept = {}
    last = network.block5[-2]  # the ReLU before pooling

    def keep(_module, _inputs, output):
        output.retain_grad()
        kept["activation"] = output

    handle = last.register_forward_hook(keep)
    logits = network(slices).logits
    handle.remove()
    (logits[:, 1] - logits[:, 0]).sum().backward()
    activation = kept["activation"]
    weights = activation.grad.mean(dim=(2, 3), keepdim=True)
    expected = functional.relu((weights * activation).sum(dim=1)).detach()
    network.zero_grad()
    found = grad_cam(network, slices)
    assert found.shape == (2, 14, 14)
    assert found.max() > 0
    torch.testing.assert_close(found, expected)


def test_only_the_slices_asked_for_are_explained_and_only_in_the_brain(saved_checkpoint):
    array = noise(3).numpy()
    mask = np.zeros((3, 224, 224), bool)
    mask[:, :, :200] = True
    seen = GradCam(saved_checkpoint, "cpu").explain(Stack(array, mask, np.eye(4)), np.array([0, 1]))
    assert seen[:2].max() > 0
    assert not seen[2].any()
    assert not seen[~mask].any()
    assert not next(GradCam(saved_checkpoint, "cpu")._network.parameters()).requires_grad
