"""What is kept of a study's way to BraTS space: the transforms, and how good they are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.grade import Contrast
from model.space.quality import Quality, list_warnings
from model.space.volume import Affine, Volume

_NAME = "preprocessing.json"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """How a study came to BraTS space, and how well.

    `to_atlas` holds for each contrast the rigid transform from its native RAS+ mm to those of BraTS space.
    """

    to_atlas: Mapping[Contrast, Affine]
    quality: Quality

    def to_native(self, volume: Volume, contrast: Contrast) -> Volume:
        """Bring a volume of BraTS space to where it lies in a series' own RAS+ mm; no voxel changes."""
        return volume.moved(np.linalg.inv(self.to_atlas[contrast]))

    def save(self, folder: Path) -> None:
        """Write `folder`/preprocessing.json."""
        content = {
            "quality": asdict(self.quality),
            "warnings": list_warnings(self.quality),
            "to_atlas": {contrast: transform.tolist() for contrast, transform in self.to_atlas.items()},
        }
        (folder / _NAME).write_text(json.dumps(content, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Record":
        """Read what `save` wrote, exactly."""
        content = json.loads((folder / _NAME).read_text())
        to_atlas = {Contrast(name): np.array(matrix) for name, matrix in content["to_atlas"].items()}
        return cls(to_atlas, Quality(**content["quality"]))
