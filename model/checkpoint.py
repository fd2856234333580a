"""From a checkpoint's folder to a network and back."""

import hashlib
import math
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.card import CARD_NAME, WEIGHTS_NAME, Card, CheckpointError, read_weights
from model.gates import FEATURES
from model.grade import Contrast
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16
from model.self_test import answer

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Checkpoint(NamedTuple):
    """A verified card and its network in evaluation mode, float32, on the CPU."""

    card: Card
    network: AttentionVGG16


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load a checkpoint whose digest, architecture and shapes agree with its card.

    Raises `CheckpointError`, which says what to do.
    """
    card, weights = read_weights(folder)
    _check_words(card, folder)
    try:
        state = load(weights)
    except SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_NAME} is not in the safetensors format: install the checkpoint again"
        ) from error
    network = AttentionVGG16(batch_norm=card.architecture == "attention-vgg16-bn")
    _check_shapes(state, network.state_dict(), card, folder)
    network.load_state_dict(state)
    return Checkpoint(card, network.eval())


def save_checkpoint(folder: Path, network: AttentionVGG16, card: Card) -> Card:
    """Write the weights as float16 and the card with their digest; give that card.

    Statistics of batch normalisation keep their precision. An earlier checkpoint in `folder` is replaced;
    between the two renames its digest does not match, so that it is refused rather than half used.
    Raises `CheckpointError` where the weights are worth nothing.
    """
    state = {name: _stored(name, tensor) for name, tensor in network.state_dict().items()}
    stored = AttentionVGG16(batch_norm=network.batch_norm).eval()
    stored.load_state_dict(state)
    logits = answer(stored)
    if not all(map(math.isfinite, logits)):
        raise CheckpointError("the weights give no finite logits: train again with a smaller learning rate")
    weights = save(state)
    digest = hashlib.sha256(weights).hexdigest()
    card = card.model_copy(update={"weights_sha256": digest, "self_test": logits})
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS_NAME, weights)
    _replace(folder / CARD_NAME, card.model_dump_json(indent=2).encode() + b"\n")
    return card


def _stored(name: str, tensor: Tensor) -> Tensor:
    kept = name.rpartition(".")[2] in _STATISTICS
    return tensor.detach().cpu().contiguous().to(tensor.dtype if kept else torch.float16)


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _check_words(card: Card, folder: Path) -> None:
    expected = (CLASS_ORDER, tuple(Contrast), (INPUT_SIZE, INPUT_SIZE))
    if (card.classes, card.input.contrasts, card.input.size) != expected:
        raise CheckpointError(
            f"the checkpoint in {folder} was made for other classes, contrasts or sizes than this network's: "
            "install one made for this version of gliograde"
        )
    usual = None if card.gates is None else card.gates.appearance
    if usual is not None and not set(usual.names) <= set(FEATURES):
        raise CheckpointError(
            f"the checkpoint in {folder} knows usual images by other features than are measured here: "
            "install one made for this version of gliograde"
        )


def _check_shapes(found: dict[str, Tensor], expected: dict[str, Tensor], card: Card, folder: Path) -> None:
    shapes_found = {name: tuple(tensor.shape) for name, tensor in found.items()}
    shapes_expected = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    differing = sorted(
        name
        for name in shapes_found.keys() | shapes_expected.keys()
        if shapes_found.get(name) != shapes_expected.get(name)
    )
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"the weights in {folder} are not those of {card.architecture}: {name} has shape "
            f"{shapes_found.get(name)}, expected {shapes_expected.get(name)} "
            f"({len(differing)} of {len(shapes_expected)} differ); install a checkpoint of this architecture"
        )
