"""Processes that a test starts and kills, and what they hold."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

PATIENCE = 300
"""Seconds after which something is taken to hang."""


def family(pid: int) -> list[psutil.Process]:
    """A process and those below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill -9 a process that leads a group of its own, and all of its group; returns once they are gone."""
    members = family(process.pid)
    # none left where it has ended by itself
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    # a child whose parent is dead may stay a zombie in a container without init
    _, alive = psutil.wait_procs([member for member in members if not is_over(member)], timeout=PATIENCE)
    assert [member for member in alive if not is_over(member)] == []


def is_over(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True)
class Held:
    """What a family of processes holds of the machine."""

    resident_mib: float = 0.0
    threads: int = 0
    descriptors: int = 0
    cpu_seconds: float = 0.0


def held(pid: int) -> Held:
    """Sums over a process and those below it; one that ends meanwhile counts as nothing."""
    each = list(_held_each(pid))
    return Held(
        sum(item.resident_mib for item in each),
        sum(item.threads for item in each),
        sum(item.descriptors for item in each),
        sum(item.cpu_seconds for item in each),
    )


def _held_each(pid: int) -> Iterator[Held]:
    for member in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess), member.oneshot():
            times = member.cpu_times()
            yield Held(
                member.memory_info().rss / 2**20,
                member.num_threads(),
                member.num_fds(),
                float(times.user + times.system),
            )
