import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.network import AttentionVGG16
from model.training import fit_cohort as module
from model.training.cohort_slices import Batch, CachedPatient, TrainingSlices
from model.training.fit_cohort import TrainingMemoryError, _learn, _step, fit_cohort
from model.training.recipes import IMPROVED

RECIPE = replace(IMPROVED, batch_norm=False, learning_rate=1e-3, epochs=1, batch=2)
PROCESS = """
import sys
from pathlib import Path
import torch
from model.training.cohort_slices import TrainingSlices
from model.training.fit_cohort import fit_cohort
from model.training.team import joined_team, place_in_team, team_size
from tests.model.test_team import RECIPE, cohort, fresh

folder = Path(sys.argv[1])
torch.set_num_threads(1)
with joined_team() as device:
    network = fresh().to(device)
    patients = cohort()
    fit_cohort(network, TrainingSlices(patients, RECIPE, 1), patients, RECIPE, 1, folder / "training.state")
    torch.save({"size": team_size(), **network.state_dict()}, folder / f"{place_in_team()}.pt")
"""


def cohort():
    """A patient of each grade, told apart by the brightness of T1ce."""
    random = np.random.default_rng(0)
    return [
        CachedPatient(
            (random.normal(0, 0.3, (2, 3, 224, 224)) + 2 * label).astype(np.float16),
            np.ones((2, 224, 224), bool),
            np.ones((2, 224, 224), bool),
            True,
            label,
        )
        for label in (0, 1)
    ]


def fresh():
    torch.manual_seed(3)
    return AttentionVGG16(batch_norm=False)


def test_two_processes_learn_one_network_together(tmp_path):
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    subprocess.run([*command, tmp_path], check=True, timeout=500)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.pop("size") == second.pop("size") == 2
    start = fresh().state_dict()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0)
    assert not torch.equal(first["head.weight"], start["head.weight"])
    saved = torch.load(tmp_path / "training.state", weights_only=True)
    assert saved["fitted"]["steps"] == 2  # four slices, two processes, one slice in each a step


@pytest.fixture
def batch():
    patients = cohort()
    slices = TrainingSlices(patients, RECIPE, 1)
    return Batch(*(torch.stack(each) for each in zip(*(slices[index] for index in range(2)), strict=True)))


def test_a_batch_learnt_in_parts_moves_the_weights_as_a_whole_one(batch):
    # dropout draws otherwise in parts, and the first slice alone has a grade of its own
    recipe = replace(RECIPE, focusing=0.0, tumour_slices_only=False)
    moved = []
    for parts in (1, 2):
        network = fresh().eval()
        optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
        _step(network, batch, recipe, optimiser, parts)
        moved.append(network.head.weight.detach() - fresh().head.weight)
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-7)
    assert moved[0].abs().max() > 0


def test_a_small_memory_halves_what_is_learnt_at_a_time_and_at_last_says_so(batch, monkeypatch):
    def step_within(limit):
        def step(_model, found, _recipe, _optimiser, parts):
            if -(-len(found.labels) // parts) > limit:
                raise torch.cuda.OutOfMemoryError
            return 0.5

        return step

    arguments = (fresh(), batch, RECIPE, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]), 1)
    monkeypatch.setattr(module, "_step", step_within(1))
    assert _learn(*arguments) == (0.5, 2)
    monkeypatch.setattr(module, "_step", step_within(0))
    with pytest.raises(TrainingMemoryError, match="for 1 slices at a time: end what"):
        _learn(*arguments)


def test_workers_do_not_change_what_is_learnt(tmp_path):
    found = []
    for workers in (0, 1):
        network = fresh()
        slices = TrainingSlices(cohort(), RECIPE, 1)
        fit_cohort(network, slices, cohort(), RECIPE, 1, tmp_path / f"{workers}", workers)
        found.append(network.head.weight.detach())
    torch.testing.assert_close(*found)
