"""The two ways to train on real patients, every choice by name; the card repeats them.

`reproduce` is the protocol of Sabahuddin and Gutta, its gaps filled as the code they built on does (Yan
2019): the paper names neither optimiser, decay, focusing, range of rotation nor validation share.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training does to the slices and to the weights."""

    name: str
    batch_norm: bool = True
    focusing: float = 2.0
    """Gamma of the focal loss (Lin 2017), without class weights."""
    learning_rate: float = 0.01
    momentum: float = 0.9
    """Nesterov's."""
    weight_decay: float = 1e-5
    decay_every: int = 10
    """Epochs after which the learning rate falls to a tenth."""
    epochs: int = 50
    batch: int = 32
    rotation_degrees: float = 10.0
    augmented_share: float = 0.5
    """Probability of rotation, and by itself of mirroring."""
    intensity: float = 0.0
    """Gain of each contrast is varied by this share, offset by this many MAD."""
    attention_weight: float = 0.0
    """Weight of each map's `attention_loss`, where a patient has a segmentation."""
    tumour_slices_only: bool = False
    """Slices without tumour teach no grade, where a patient has a segmentation."""
    every: int = 1
    """One training slice of so many; more than 1 is for trials."""
    by_training_set: bool = True
    """Each contrast has the mean and deviation of all training pixels, background too; else each volume has
    its own median and MAD within the brain."""
    pooling: Literal["attention-weighted-mean", "majority-vote"] = "majority-vote"
    """Of a patient's slices; with as many votes for each, LGG."""
    calibrated: bool = False
    """Temperature fitted on the validation patients."""

    def words(self) -> str:
        """Every choice in one line."""
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items() if name != "name")


REPRODUCE = Recipe("reproduce")
IMPROVED = replace(
    REPRODUCE,
    name="improved",
    intensity=0.25,
    attention_weight=0.15,
    tumour_slices_only=True,
    by_training_set=False,
    pooling="attention-weighted-mean",
    calibrated=True,
)
RECIPES = {recipe.name: recipe for recipe in (REPRODUCE, IMPROVED)}
