"""Training in several processes at once, as `torchrun` starts them, one for each GPU or part of a CPU.

Each process sees its share of every batch; DistributedDataParallel averages their gradients. What is written
is written by the first process, while the others wait.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

_PATIENCE = timedelta(hours=12)
"""The first process may be normalising a whole cohort."""


@contextmanager
def joined_team() -> Iterator[str]:
    """Join the processes that `torchrun` started, where it did, and give this one's device.

    Alone it is the first CUDA device or else the CPU.
    """
    cuda = torch.cuda.is_available()
    if not _is_team():
        yield "cuda" if cuda else "cpu"
        return
    device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def team_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def place_in_team() -> int:
    """This process's number, from 0."""
    return int(os.environ["RANK"]) if _is_team() else 0


def wait_for_team() -> None:
    """Go on when all have come here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def first_goes_ahead() -> Iterator[bool]:
    """Let the first process do what is inside before the others do, and tell each whether it is the first."""
    is_first = place_in_team() == 0
    if not is_first:
        wait_for_team()
    yield is_first
    if is_first:
        wait_for_team()


def shared(network: nn.Module) -> nn.Module:
    """Wrap a network so that its gradients are the team's; batch statistics too where there is a GPU."""
    if team_size() == 1:
        return network
    if next(network.parameters()).is_cuda:
        # in place: the names of the weights stay
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call] # untyped
    return cast("nn.Module", DistributedDataParallel(network))


def _is_team() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ
