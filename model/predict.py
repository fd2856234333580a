"""From a stack to a grade, its probability and an attention volume."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.appearance import describe_appearance
from model.calibration import Platt
from model.card import Card
from model.checkpoint import load_checkpoint
from model.gates import Gates, Judgement, PatientStatistics, judge
from model.grade import Grade, GradePrediction
from model.network import CLASS_ORDER, INPUT_SIZE, AttentionVGG16, NetworkOutput
from model.space.stack import Stack
from model.space.volume import Volume

_HGG = CLASS_ORDER.index(Grade.HGG)
_ATTENTIVE = 0.5
_LEAST_EVIDENCE = 1e-6
"""Keeps the weights defined, and equal, where no slice has any attention."""


Precision = Literal["fp32", "fp16", "bf16"]
"""How the device multiplies. A CPU knows bf16, where it has instructions for it, and else fp32 alone."""
_TYPES: Mapping[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


class OutOfDeviceMemoryError(Exception):
    """Not even one slice fits into the accelerator's memory beside its other tenants.

    Trying again helps once they have left.
    """


class IntensitiesMissingError(Exception):
    """A stack without the intensities that its checkpoint normalises; prepare the study for it again."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the network says of a stack, and where it looked.

    `attention` has the stack's grid and affine: float32 (slice, row, column), 0-1 on one fixed scale, 0
    outside the stack's mask. `appearance` are the features of `model.appearance`; `gates` those of the
    checkpoint.
    """

    grade_prediction: GradePrediction
    attention: Volume
    appearance: tuple[float, ...] = ()
    gates: Gates | None = None

    @property
    def statistics(self) -> PatientStatistics:
        """What the gates look at."""
        voxel_ml = abs(float(np.linalg.det(self.attention.affine[:3, :3]))) / 1000
        attention_ml = float((self.attention.array > _ATTENTIVE).sum()) * voxel_ml
        return PatientStatistics(self.grade_prediction.probability, attention_ml, self.appearance)

    @property
    def judgement(self) -> Judgement:
        """What the gates say: whether the grade may be told."""
        return judge(self.statistics, self.gates)


class Predictor:
    """One checkpoint, loaded once, that grades stacks on one device."""

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        *,
        batch_size: int | None = None,
        threads: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Load the checkpoint in `folder`; raises `CheckpointError`.

        `device` is torch's name of it, by default the first CUDA device or else the CPU. `batch_size` is how
        many slices go through the network at once, by default 8 on a CPU and 64 on an accelerator. `threads`
        sets torch's CPU threads for the whole process.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.card, network = load_checkpoint(folder)
        self._network = _on_device(network, self.device, precision)
        self._batch_size = batch_size or (8 if self.device.type == "cpu" else 64)

    def predict(self, stack: Stack) -> Prediction:
        """Grade a stack; raises `OutOfDeviceMemoryError` and `IntensitiesMissingError`."""
        return self.predict_together([stack])[0]

    def predict_together(self, stacks: Sequence[Stack]) -> list[Prediction]:
        """Grade stacks whose slices share the device's batches; raises as `predict`, for none or all."""
        shown = torch.cat([torch.from_numpy(shown_to_network(stack, self.card)) for stack in stacks])
        logits, a3 = self._forward(shown)
        if self.card.flip_averaging:
            mirrored_logits, mirrored_a3 = self._forward(shown.flip(2))
            logits, a3 = (logits + mirrored_logits) / 2, (a3 + mirrored_a3.flip(2)) / 2
        counts = [len(stack.mask) for stack in stacks]
        parts = zip(stacks, torch.split(logits, counts), torch.split(a3, counts), strict=True)
        return [self._judge(*part) for part in parts]

    def _judge(self, stack: Stack, logits: Tensor, a3: Tensor) -> Prediction:
        """Make a patient's grade of what the network says of its slices: logits (n, 2), A3 (n, 1, 28, 28).

        A slice's weight in the patient's probability is its attention over pool-3, summed within the mask.
        With majority vote the probability is the share of slices called HGG, each of one weight.
        """
        size = (INPUT_SIZE, INPUT_SIZE)
        mask = torch.from_numpy(stack.mask)
        attention = functional.interpolate(a3, size, mode="bilinear", align_corners=False)[:, 0] * mask
        margins = (logits[:, _HGG].double() - logits[:, 1 - _HGG].double()).numpy()
        probabilities = Platt(self.card.temperature, self.card.bias).probabilities(margins)
        weights = slice_weights(attention.sum(dim=(1, 2), dtype=torch.float64).numpy())
        if self.card.pooling == "majority-vote":
            weights = np.full(len(weights), 1 / len(weights))
        prediction = GradePrediction(
            probability=pool(probabilities, weights, self.card.pooling),
            threshold=self.card.threshold,
            slice_probabilities=tuple(probabilities.tolist()),
            slice_weights=tuple(weights.tolist()),
        )
        volume = Volume(attention.numpy(), stack.affine)
        return Prediction(prediction, volume, describe_appearance(stack), self.card.gates)

    def _forward(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (n, 2) and A3 (n, 1, 28, 28) on the CPU, in batches that fit."""
        outputs: list[NetworkOutput] = []
        start, batch_size = 0, self._batch_size
        while start < len(slices):
            try:
                outputs.append(self._forward_batch(slices[start : start + batch_size]))
            except torch.cuda.OutOfMemoryError as error:
                if batch_size == 1:
                    raise OutOfDeviceMemoryError(f"{self.device} has no memory for one slice") from error
                batch_size //= 2
            else:
                start += batch_size
        return torch.cat([each.logits for each in outputs]), torch.cat([each.a3 for each in outputs])

    def _forward_batch(self, slices: Tensor) -> NetworkOutput:
        with torch.inference_mode():
            output = self._network(slices.to(self.device))
            return NetworkOutput(*(each.float().cpu() for each in output))


def _on_device(
    network: AttentionVGG16, device: torch.device, precision: Precision
) -> Callable[[Tensor], NetworkOutput]:
    if device.type == "cpu":
        from model.cpu_network import CpuNetwork  # noqa: PLC0415 - OpenVINO only where there is no accelerator

        return CpuNetwork(network, torch.get_num_threads(), bfloat16=precision == "bf16")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    return network if precision == "fp32" else HalfNetwork(network, device, precision)


class HalfNetwork:
    """A network that multiplies in 16 bits and sums in 32, on its own device.

    Of the shipped checkpoint's answers in fp32, a slice's probability stays within 0.002 with fp16 and 0.03
    with bf16, its attention within 0.02 and 0.1. What is too large for 16 bits goes through in fp32.
    """

    def __init__(
        self, network: Callable[[Tensor], NetworkOutput], device: torch.device, precision: Precision
    ) -> None:
        """Take a network that is on `device` in evaluation mode."""
        self._network, self._device, self._type = network, device, _TYPES[precision]

    def __call__(self, slices: Tensor) -> NetworkOutput:
        """Grade n slices (n, 3, 224, 224) on the device."""
        with torch.autocast(self._device.type, self._type):
            output = NetworkOutput(*(each.float() for each in self._network(slices)))
        finite = all(bool(each.isfinite().all()) for each in output)
        return output if finite else self._network(slices)


def shown_to_network(stack: Stack, card: Card) -> npt.NDArray[np.float32]:
    """Normalise a stack as the card says, float32 (slice, 3, 224, 224). Raises `IntensitiesMissingError`."""
    if card.input.mean is None or card.input.deviation is None:
        return stack.array
    if stack.intensities is None:
        raise IntensitiesMissingError("the stack was prepared for another checkpoint")
    return by_training_set(stack.intensities, card.input.mean, card.input.deviation)


def by_training_set(
    intensities: npt.NDArray[np.float32], mean: Sequence[float], deviation: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Bring slices (…, 3, row, column) to the mean and deviation of each contrast in a training set."""
    centre, width = (np.array(each, np.float32)[:, None, None] for each in (mean, deviation))
    scores: npt.NDArray[np.float32] = (intensities - centre) / width
    return scores


def pool(probabilities: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], pooling: str) -> float:
    """Give a patient's probability from its slices': weighted mean, or the share of them that say HGG."""
    if pooling == "majority-vote":
        return float((probabilities > 0.5).mean())
    return float(np.clip(probabilities @ weights, 0, 1))


def slice_weights(evidence: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn each slice's evidence of tumour, not negative, shape (slice,), into its share of the whole."""
    shares = evidence + _LEAST_EVIDENCE
    weights: npt.NDArray[np.float64] = shares / shares.sum()
    return weights
