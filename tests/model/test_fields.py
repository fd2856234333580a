import numpy as np
import pytest
import torch

from model.simulation.fields import Grid, sample

GRID = Grid((20, 24, 28), np.array([-10.0, 5.0, 3.0]), 1.5)


def test_sampling_a_grid_of_positions_gives_the_positions():
    positions = GRID.positions()
    inner = positions[:, 3:7, 4:9, 5:8] + 0.3
    assert torch.allclose(sample(positions, GRID, inner), inner, atol=1e-3)


def test_outside_is_zero_or_the_border():
    far = torch.full((3, 1, 1, 1), 500.0)
    assert sample(GRID.positions(), GRID, far).abs().max() == 0
    corner = GRID.positions()[:, -1:, -1:, -1:]
    assert torch.allclose(sample(GRID.positions(), GRID, far, edge=True), corner, atol=1e-3)


def test_a_coarse_grid_covers_the_fine_one():
    assert bool((GRID.coarse(4).positions()[:, -1, -1, -1] >= GRID.positions()[:, -1, -1, -1]).all())


def test_a_part_holds_what_lies_within_reach():
    part = GRID.positions()[:, *GRID.part(np.array([0.0, 20.0, 20.0]), 6.0)]
    for axis, centre in enumerate((0.0, 20.0, 20.0)):
        assert float(part[axis].min()) <= centre - 6
        assert float(part[axis].max()) >= centre + 6


def test_noise_is_standard_smooth_and_repeatable():
    grid = Grid((60, 60, 60), np.zeros(3))
    field = grid.noise(np.random.default_rng(1), 8.0)
    assert float(field.mean()) == pytest.approx(0, abs=0.25)
    assert float(field.std()) == pytest.approx(0.85, abs=0.2)
    assert float(field.diff(dim=1).std()) < 0.4
    assert torch.equal(field, grid.noise(np.random.default_rng(1), 8.0))
