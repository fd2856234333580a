"""What it costs that an attention map doesn't lie on the tumour."""

from torch import Tensor
from torch.nn import functional

from model.network import INPUT_SIZE

ENTROPY_WEIGHT = 4.0
"""Of the cross entropy, beside the Dice loss. The Dice loss alone drives the sigmoid to where it learns no
more: it left all of A4 below 1e-8, and A3 at 1 far over the tumour's edge."""


def attention_loss(attention: Tensor, masks: Tensor) -> Tensor:
    """Hold each place of a map against the share of it that is tumour: Dice loss (Yan 2019), cross entropy.

    `attention` is (n, 1, h, w), 0–1, `masks` float (n, 1, 224, 224); gives the loss of each slice, (n,).
    """
    share = functional.avg_pool2d(masks, INPUT_SIZE // attention.shape[-1])
    both = (attention * share).sum(dim=(1, 2, 3))
    either = attention.sum(dim=(1, 2, 3)) + share.sum(dim=(1, 2, 3))
    entropy = functional.binary_cross_entropy(attention, share, reduction="none").mean(dim=(1, 2, 3))
    return 1 - (2 * both + 1) / (either + 1) + ENTROPY_WEIGHT * entropy
