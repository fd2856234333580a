"""Training the whole network on slices of real patients; the validation patients choose the epoch."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler

from model.grade import Grade
from model.metrics import Flags, Numbers, area_under_curve
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16, NetworkOutput
from model.predict import pool, slice_weights
from model.simulation.samples import NO_GRADE
from model.training.attention_loss import attention_loss
from model.training.cohort_slices import Batch, CachedPatient, TrainingSlices
from model.training.recipes import Recipe
from model.training.team import place_in_team, shared, team_size, wait_for_team

_HGG = CLASS_ORDER.index(Grade.HGG)
_TEMPERATURES = np.geomspace(0.25, 4, 33)

_log = logging.getLogger(__name__)


class TrainingMemoryError(Exception):
    """The GPU's memory is too small even for a single slice, or for this process's share of a batch.

    Trying again helps once there is more; the training goes on with the epoch that was stopped.
    """


@dataclass(slots=True)
class Fitted:
    """How a training went; `state` is that of the best epoch."""

    state: dict[str, Tensor] = field(default_factory=dict)
    best_auc: float = -1.0
    best_epoch: int = 0
    epochs_done: int = 0
    steps: int = 0


def focal_loss(logits: Tensor, labels: Tensor, focusing: float) -> Tensor:
    """Mean of -(1 - p)^gamma log p of the slices with a grade (Lin 2017); 0 where none has one."""
    logs = functional.log_softmax(logits, dim=1)
    graded = labels != NO_GRADE
    log = logs.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    losses = -((1 - log.exp()) ** focusing) * log
    return (losses * graded).sum() / graded.sum().clamp(min=1)


def recipe_loss(output: NetworkOutput, batch: Batch, recipe: Recipe) -> Tensor:
    """Focal loss, and that of both attention maps on the slices whose mask is known."""
    loss = focal_loss(output.logits, batch.labels, recipe.focusing)
    if not recipe.attention_weight:
        return loss
    for attention in (output.a3, output.a4):
        looked = attention_loss(attention, batch.masks) * batch.segmented
        loss = loss + recipe.attention_weight * looked.sum() / batch.segmented.sum().clamp(min=1)
    return loss


def fit_cohort(
    network: AttentionVGG16,
    slices: TrainingSlices,
    validation: Sequence[CachedPatient],
    recipe: Recipe,
    seed: int,
    checkpoint: Path,
    workers: int = 0,
) -> Fitted:
    """Train in place on the network's device; give the best epoch.

    Under `torchrun` each process has a share of every batch, and the first one validates. After each epoch
    all is written to `checkpoint`, our own file of tensors; where it exists, training goes on from it, alone
    to the same end as if it had never stopped. Raises `TrainingMemoryError`.
    """
    device = next(network.parameters()).device
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, recipe.decay_every, 0.1)
    fitted = Fitted()
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        fitted = Fitted(**saved["fitted"])
    truth = np.array([each.label == _HGG for each in validation])
    model, parts = shared(network), 1
    for epoch in range(fitted.epochs_done, recipe.epochs):
        slices.epoch = epoch
        torch.manual_seed(seed * 100_003 + epoch)
        losses = []
        network.train()
        words = f"epoch {epoch + 1} of {recipe.epochs}"
        for found in _shown(_loader(slices, recipe, workers), words):
            batch = Batch(*(each.to(device) for each in found))
            loss, parts = _learn(model, batch, recipe, optimiser, parts)
            losses.append(loss)
        schedule.step()
        fitted.epochs_done, fitted.steps = epoch + 1, fitted.steps + len(losses)
        if place_in_team() == 0:
            auc = area_under_curve(pooled(network, validation, 1.0, recipe.pooling), truth)
            _log.info("%s: loss %.3f, validation AUC %.3f", words, np.mean(losses), auc)
            if auc > fitted.best_auc:
                state = network.state_dict()
                fitted.state = {name: each.detach().cpu().clone() for name, each in state.items()}
                fitted.best_auc, fitted.best_epoch = auc, epoch + 1
            _save(checkpoint, network, optimiser, schedule, fitted)
        wait_for_team()
    if fitted.state:
        network.load_state_dict(fitted.state)
    return fitted


def _loader(slices: TrainingSlices, recipe: Recipe, workers: int) -> DataLoader[Batch]:
    """Give one epoch's batches, this process's share of each."""
    size = team_size()
    batch = max(1, recipe.batch // size)
    if size == 1:
        return DataLoader(slices, batch, shuffle=True, num_workers=workers)
    sampler: DistributedSampler[Batch] = DistributedSampler(slices, size, place_in_team())
    sampler.set_epoch(slices.epoch)
    return DataLoader(slices, batch, sampler=sampler, num_workers=workers)


def _shown(loader: DataLoader[Batch], words: str) -> Iterable[Batch]:
    """Show on a terminal how far an epoch is."""
    console = Console(stderr=True)
    hidden = place_in_team() > 0 or not console.is_terminal
    return track(loader, words, len(loader), console=console, transient=True, disable=hidden)


def _learn(
    model: nn.Module, batch: Batch, recipe: Recipe, optimiser: torch.optim.Optimizer, parts: int
) -> tuple[float, int]:
    """Take one step on a batch in so many parts, in more where the GPU's memory is too small for them.

    Gives the loss and the parts it took. Batch normalisation sees each part by itself. Raises
    `TrainingMemoryError`.
    """
    while True:
        try:
            return _step(model, batch, recipe, optimiser, parts), parts
        except torch.cuda.OutOfMemoryError as error:
            if parts >= len(batch.labels) or team_size() > 1:
                raise TrainingMemoryError(
                    f"the GPU has no memory for {-(-len(batch.labels) // parts)} slices at a time: end what "
                    "else runs there, take more GPUs (torchrun), or hide it: CUDA_VISIBLE_DEVICES="
                ) from error
            parts *= 2
            _log.warning("the GPU's memory is too small: each batch is learnt in %d parts", parts)


def _step(
    model: nn.Module, batch: Batch, recipe: Recipe, optimiser: torch.optim.Optimizer, parts: int
) -> float:
    optimiser.zero_grad()
    total = 0.0
    count = len(batch.labels)
    for part in (Batch(*each) for each in zip(*(each.chunk(parts) for each in batch), strict=True)):
        device = part.slices.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = model(part.slices)
        loss = recipe_loss(NetworkOutput(*(each.float() for each in output)), part, recipe)
        loss = loss * (len(part.labels) / count)
        loss.backward()  # type: ignore[no-untyped-call] # torch's stub has no types here
        total += loss.item()
    optimiser.step()
    return total


def pooled(
    network: AttentionVGG16,
    patients: Sequence[CachedPatient],
    temperature: float,
    pooling: str = "attention-weighted-mean",
) -> Numbers:
    """Probability of HGG of each patient, its slices pooled as `Predictor` does."""
    return np.array([_pool(*_look(network, each), temperature, pooling) for each in patients])


def fit_temperature(network: AttentionVGG16, patients: Sequence[CachedPatient], truth: Flags) -> float:
    """Give the temperature, of 33 between a quarter and four, with the least log loss of patients."""
    seen = [_look(network, each) for each in patients]

    def log_loss(temperature: float) -> float:
        p = np.clip([_pool(*each, temperature) for each in seen], 1e-6, 1 - 1e-6)
        return float(-np.log(np.where(truth, p, 1 - p)).mean())

    return float(min(_TEMPERATURES.tolist(), key=log_loss))


def _look(network: AttentionVGG16, patient: CachedPatient) -> tuple[Numbers, Numbers]:
    """Logits (slice, 2) and the weight of each slice."""
    device = next(network.parameters()).device
    network.eval()
    logits, evidence = [], []
    with torch.inference_mode():
        for start in range(0, len(patient.slices), 8):
            part = slice(start, start + 8)
            shown = patient.normalised(patient.slices[part].astype(np.float32))
            output = network(torch.from_numpy(shown).to(device))
            size = (INPUT_SIZE, INPUT_SIZE)
            a3 = functional.interpolate(output.a3, size, mode="bilinear", align_corners=False)[:, 0]
            inside = torch.from_numpy(patient.brain[part].copy()).to(device)
            logits.append(output.logits.double().cpu().numpy())
            evidence.append((a3 * inside).sum(dim=(1, 2), dtype=torch.float64).cpu().numpy())
    return np.concatenate(logits), slice_weights(np.concatenate(evidence))


def _pool(
    logits: Numbers, weights: Numbers, temperature: float, pooling: str = "attention-weighted-mean"
) -> float:
    margin = (logits[:, _HGG] - logits[:, 1 - _HGG]) / temperature
    return pool(1 / (1 + np.exp(-margin)), weights, pooling)


def _save(
    path: Path,
    network: AttentionVGG16,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.StepLR,
    fitted: Fitted,
) -> None:
    part = path.with_name(path.name + ".part")
    content = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "fitted": {name: getattr(fitted, name) for name in Fitted.__slots__},
    }
    torch.save(content, part)
    part.replace(path)
