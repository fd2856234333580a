"""Three volumes → one co-registered, brain-masked, normalised stack: the one path for training and inference.

Steps: the brain on T1ce, FLAIR and T2 rigidly onto T1ce, T1ce's brain rigidly onto the atlas, each volume
sampled once in BraTS space, masked, normalised, cut into slices. What lies in BraTS space already enters
after the registration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.grade import Contrast
from model.space.atlas import BRATS_AFFINE, BRATS_SHAPE, load_atlas
from model.space.brain_mask import clean_mask, find_brain, find_brain_roughly
from model.space.quality import PreprocessingError, Quality, Reason, overlap, similarity
from model.space.record import Record
from model.space.register import (
    Registration,
    RegistrationError,
    centre_mm,
    register,
    rotation_degrees,
    shift_between,
)
from model.space.stack import SLICES, Stack, cut_stack
from model.space.volume import Affine, Volume

CLIP = 6.0
_GOOD_SIMILARITY = 1.025
_ALIGNED_SIMILARITY = 1.015
_GOOD_ATLAS_LIKENESS = 1.015 * 0.88
_FRAME_MM = 20.0
_COARSE = 2
_NAMES = {Contrast.FLAIR: "FLAIR", Contrast.T1CE: "T1 post-contrast", Contrast.T2: "T2"}
_NO_BRAIN = "not gradable: no brain was found in the {name} series."

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Volumes (240, 240, 155) on the grid of BraTS, not a number where a series ends, and the brain there.

    `plain_t1` is a T1 before contrast agent, where there is one that could be aligned.
    """

    arrays: Mapping[Contrast, Array]
    mask: Mask
    plain_t1: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A study in BraTS space, and the record of how it came there."""

    stack: Stack
    record: Record
    placed: Placed

    def save(self, folder: Path) -> None:
        """Write `folder`/stack.npz and `folder`/preprocessing.json."""
        self.stack.save(folder / "stack.npz")
        self.record.save(folder)


def prepare_study(
    volumes: Mapping[Contrast, Volume], plain_t1: Volume | None = None, *, keep_intensities: bool = False
) -> Prepared:
    """Bring three native series, of heads or of brains, to BraTS space, and a plain T1 along with them.

    `keep_intensities` is for a checkpoint that normalises by its training set.

    Raises PreprocessingError, never for the plain T1, which the network doesn't see. Whether the outcome is
    good enough to be graded is `quality.require_gradable`'s to say.
    """
    for contrast in Contrast:
        _check(contrast, volumes)
    brains = {
        contrast: (find_brain if contrast is Contrast.T1CE else find_brain_roughly)(volumes[contrast])
        for contrast in Contrast
    }
    found = {contrast: brain for contrast, brain in brains.items() if brain is not None}
    if missing := [contrast for contrast in Contrast if contrast not in found]:
        raise PreprocessingError(Reason.NO_BRAIN, _NO_BRAIN.format(name=_NAMES[missing[0]]))
    to_atlas = _align(volumes, found)
    prepared = _assemble(volumes, found, to_atlas, keep_intensities=keep_intensities)
    if plain_t1 is None:
        return prepared
    along = _along(plain_t1, volumes[Contrast.T1CE], to_atlas[Contrast.T1CE], prepared.placed.mask)
    return replace(prepared, placed=replace(prepared.placed, plain_t1=along))


def prepare_in_space(volumes: Mapping[Contrast, Volume]) -> Prepared:
    """Take three volumes that lie in BraTS space, skull-stripped, as BraTS's folders hold them.

    The stack keeps their intensities.

    Raises PreprocessingError, NOT_IN_SPACE where a volume has another grid.
    """
    for contrast in Contrast:
        _check(contrast, volumes)
        volume, name = volumes[contrast], _NAMES[contrast]
        if volume.array.shape != BRATS_SHAPE or not np.allclose(volume.affine, BRATS_AFFINE, atol=1e-3):
            raise PreprocessingError(
                Reason.NOT_IN_SPACE, f"not gradable: {name} does not lie on the grid of BraTS."
            )
    brains = {
        c: Volume((v.array != v.array[0, 0, 0]).astype(np.float32), v.affine) for c, v in volumes.items()
    }
    return _assemble(volumes, brains, dict.fromkeys(Contrast, np.eye(4)), keep_intensities=True)


def _check(contrast: Contrast, volumes: Mapping[Contrast, Volume]) -> None:
    if contrast not in volumes:
        raise PreprocessingError(
            Reason.MISSING_CONTRAST, f"not gradable: there is no {_NAMES[contrast]} series."
        )
    volume, name = volumes[contrast], _NAMES[contrast]
    if not (np.isfinite(volume.affine).all() and volume.spacing_mm.all() and volume.array.size):
        raise PreprocessingError(
            Reason.BAD_GEOMETRY, f"not gradable: the {name} series has no valid voxel size."
        )
    if abs(np.linalg.det(volume.affine[:3, :3] / volume.spacing_mm)) < 0.5:
        raise PreprocessingError(
            Reason.BAD_GEOMETRY, f"not gradable: the axes of the {name} series are not at right angles."
        )
    low, high = volume.array.min(), volume.array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PreprocessingError(
            Reason.NOT_FINITE, f"not gradable: the {name} series holds values that are not numbers."
        )
    if low == high:
        raise PreprocessingError(
            Reason.CONSTANT, f"not gradable: the {name} series is empty, all its voxels are equal."
        )


def _align(volumes: Mapping[Contrast, Volume], brains: Mapping[Contrast, Volume]) -> dict[Contrast, Affine]:
    """Find each contrast's way to the atlas; FLAIR and T2 go by T1ce."""
    threads = torch.get_num_threads()
    atlas, t1ce = load_atlas(), volumes[Contrast.T1CE]
    stripped = _stripped(t1ce, brains[Contrast.T1CE])
    centres = {contrast: centre_mm(brain) for contrast, brain in brains.items()}
    coarse_atlas = _on_coarse_grid(atlas)

    def likeness_to_atlas(transform: Affine) -> float:
        brain = np.nan_to_num(_on_coarse_grid(stripped.moved(transform)))
        inside, inside_atlas = brain != 0, coarse_atlas > 0
        either = inside | inside_atlas
        # two brains side by side exclude each other, which is information too
        return similarity(brain[either], coarse_atlas[either]) * overlap(inside, inside_atlas)

    inside_atlas = Volume((atlas.array > 0).astype(np.float32), atlas.affine)
    start = shift_between(centres[Contrast.T1CE], centre_mm(inside_atlas))
    found = register(_framed(atlas), stripped, [start], likeness_to_atlas, _GOOD_ATLAS_LIKENESS, threads)
    to_atlas = {Contrast.T1CE: found.transform}
    mask = _on_coarse_grid(brains[Contrast.T1CE].moved(found.transform)) > 0.5
    for contrast in (Contrast.FLAIR, Contrast.T2):
        starts = [shift_between(centres[contrast], centres[Contrast.T1CE]), np.eye(4)]
        moved = _onto_t1ce(volumes[contrast], t1ce, found.transform, mask, starts)
        to_atlas[contrast] = found.transform @ moved.transform
    return to_atlas


def _onto_t1ce(
    moving: Volume, t1ce: Volume, t1ce_to_atlas: Affine, coarse_mask: Mask, starts: Sequence[Affine]
) -> Registration:
    """Register a series onto T1ce; how alike they are is measured in the brain, on the coarse grid."""
    inside = _on_coarse_grid(t1ce.moved(t1ce_to_atlas))[coarse_mask]

    def likeness(transform: Affine) -> float:
        values = _on_coarse_grid(moving.moved(t1ce_to_atlas @ transform))[coarse_mask]
        # few samples look alike by chance, so what moves a series out of the brain must not win
        return 1 + (similarity(values, inside) - 1) * float(np.isfinite(values).mean())

    return register(t1ce, moving, starts, likeness, _GOOD_SIMILARITY, torch.get_num_threads())


def _along(plain_t1: Volume, t1ce: Volume, t1ce_to_atlas: Affine, mask: Mask) -> Array | None:
    """Bring a plain T1 to BraTS space by T1ce, beside which it was acquired; None where that fails."""
    try:
        _check(Contrast.T1CE, {Contrast.T1CE: plain_t1})
        coarse_mask = mask[::_COARSE, ::_COARSE, ::_COARSE]
        found = _onto_t1ce(plain_t1, t1ce, t1ce_to_atlas, coarse_mask, [np.eye(4)])
    except (PreprocessingError, RegistrationError):
        return None
    if found.score < _ALIGNED_SIMILARITY:
        return None
    return _in_space(plain_t1, t1ce_to_atlas @ found.transform)


def place(volumes: Mapping[Contrast, Volume], brain: Volume, to_atlas: Mapping[Contrast, Affine]) -> Placed:
    """Sample every volume once in BraTS space, and the brain of T1ce with it."""
    arrays = {contrast: _in_space(volumes[contrast], to_atlas[contrast]) for contrast in Contrast}
    mask = clean_mask(np.nan_to_num(_in_space(brain, to_atlas[Contrast.T1CE])))
    if not mask.any():
        raise PreprocessingError(Reason.NO_BRAIN, _NO_BRAIN.format(name=_NAMES[Contrast.T1CE]))
    return Placed(arrays, mask)


def build_stack(placed: Placed, *, keep_intensities: bool = False) -> Stack:
    """Normalise each volume within the brain and cut the slices out. Raises PreprocessingError.

    Intensities, where they are kept, are those of the series, the brain's median where a series ends.
    """
    normalised = {
        contrast: _normalised(array, placed.mask, contrast) for contrast, array in placed.arrays.items()
    }
    if not keep_intensities:
        return cut_stack(normalised, placed.mask)
    intensities = {
        contrast: np.where(placed.mask, np.where(np.isfinite(array), array, _median(array, placed.mask)), 0)
        for contrast, array in placed.arrays.items()
    }
    return cut_stack(normalised, placed.mask, intensities)


def _assemble(
    volumes: Mapping[Contrast, Volume],
    brains: Mapping[Contrast, Volume],
    to_atlas: Mapping[Contrast, Affine],
    *,
    keep_intensities: bool,
) -> Prepared:
    placed = place(volumes, brains[Contrast.T1CE], to_atlas)
    stack = build_stack(placed, keep_intensities=keep_intensities)
    return Prepared(stack, Record(to_atlas, _measure(placed, brains, to_atlas)), placed)


def _measure(
    study: Placed, brains: Mapping[Contrast, Volume], to_atlas: Mapping[Contrast, Affine]
) -> Quality:
    placed, mask, atlas = study.arrays, study.mask, load_atlas().array
    brain = brains[Contrast.T1CE]
    voxels = np.argwhere(clean_mask(brain.array)).T
    to_grid = np.linalg.inv(BRATS_AFFINE) @ to_atlas[Contrast.T1CE] @ brain.affine
    places = to_grid[:3, :3] @ voxels + to_grid[:3, 3:]
    on_grid = ((places > -0.5) & (places < np.array(BRATS_SHAPE)[:, None] - 0.5)).all(axis=0)
    either = mask | (atlas > 0)
    stripped = np.where(mask, placed[Contrast.T1CE], 0)
    seen = np.zeros_like(mask)
    seen[:, :, SLICES.start : SLICES.stop] = mask[:, :, SLICES.start : SLICES.stop]
    values: dict[str, float] = {
        "brain_ml": float(voxels.shape[1] * abs(np.linalg.det(brain.affine[:3, :3])) / 1000),
        "outside_grid": float(1 - on_grid.mean()),
        "atlas_similarity": similarity(stripped[either], atlas[either]),
        "atlas_overlap": overlap(mask, atlas > 0),
        "head_rotation_degrees": rotation_degrees(to_atlas[Contrast.T1CE]),
    }
    for contrast in Contrast:
        values[f"{contrast}_coverage"] = (
            float(np.isfinite(placed[contrast][seen]).mean()) if seen.any() else 0.0
        )
    from_atlas = np.linalg.inv(to_atlas[Contrast.T1CE])
    centre = np.array([*centre_mm(brain), 1.0])
    for contrast in (Contrast.FLAIR, Contrast.T2):
        reached = np.isfinite(placed[contrast][::_COARSE, ::_COARSE, ::_COARSE])
        own = _on_coarse_grid(brains[contrast].moved(to_atlas[contrast])) > 0.5
        to_t1ce = from_atlas @ to_atlas[contrast]
        shift = (np.linalg.inv(to_t1ce) @ centre - centre)[:3]
        values |= {
            f"{contrast}_similarity": similarity(placed[contrast][mask], placed[Contrast.T1CE][mask]),
            f"{contrast}_overlap": overlap(own & reached, mask[::_COARSE, ::_COARSE, ::_COARSE] & reached),
            f"{contrast}_rotation_degrees": rotation_degrees(to_t1ce),
            f"{contrast}_shift_mm": float(np.linalg.norm(shift)),
        }
    return Quality(**values)


def _in_space(volume: Volume, transform: Affine) -> Array:
    """Sample a volume, moved by a transform, on the grid of BraTS; not a number where it ends."""
    return volume.moved(transform).resample(BRATS_SHAPE, BRATS_AFFINE, fill=np.nan).array


def _on_coarse_grid(volume: Volume) -> Array:
    """Sample a volume of BraTS space on every second voxel of its grid, (120, 120, 78)."""
    i, j, k = (-(-count // _COARSE) for count in BRATS_SHAPE)
    affine = BRATS_AFFINE @ np.diag([_COARSE, _COARSE, _COARSE, 1.0])
    return volume.resample((i, j, k), affine, fill=np.nan).array


def _stripped(volume: Volume, brain: Volume) -> Volume:
    """Set a volume to 0 outside its brain, and cut it to the brain."""
    shape = (volume.array.shape[0], volume.array.shape[1], volume.array.shape[2])
    inside = clean_mask(brain.resample(shape, volume.affine).array)
    return _framed(Volume(np.where(inside, volume.array, 0).astype(np.float32), volume.affine))


def _framed(volume: Volume) -> Volume:
    """Cut a volume to the box of what isn't 0 and put a frame of 0 around it.

    A registration sees where the brain ends only where there is something beside it.
    """
    places = np.argwhere(volume.array)
    first, last = places.min(axis=0), places.max(axis=0) + 1
    frame = np.ceil(_FRAME_MM / volume.spacing_mm).astype(int)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (first - frame)
    return Volume(np.pad(volume.array[box], [(int(n), int(n)) for n in frame]), affine)


def _median(array: Array, mask: Mask) -> float:
    inside = array[mask]
    inside = inside[np.isfinite(inside)]
    return float(np.median(inside)) if inside.size else 0.0


def _normalised(array: Array, mask: Mask, contrast: Contrast) -> Array:
    """Median and MAD of the brain to 0 and 1, clipped; 0 outside the mask and where the series ends."""
    inside = array[mask]
    inside = inside[np.isfinite(inside)]
    median = _median(array, mask)
    spread = 1.4826 * np.median(np.abs(inside - median)) if inside.size else 0.0
    if spread <= 0:
        raise PreprocessingError(
            Reason.CONSTANT, f"not gradable: the {_NAMES[contrast]} series is constant in the brain."
        )
    scores = np.clip((array - median) / spread, -CLIP, CLIP)
    return np.where(mask & np.isfinite(scores), scores, 0).astype(np.float32)
