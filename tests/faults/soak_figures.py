"""What the processes of the soak hold, over time; and whether it grows.

The rule. Each process of ours is sampled every few seconds, a killed and restarted one as a new generation.
Its warm-up is left out: a given time, and until it holds 95 % of the memory that is its median (what it loads
with its first study). Of the rest, where that is a minute or more, the median of the last third must not
exceed that of the first third by more than 5 % (memory), or by more than 5 % and two (threads, file
descriptors: one association more).
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Final

from tests.faults.processes import Held, held
from tests.faults.service import Service

INTERVAL_S: Final = 2.0
SHORTEST_S: Final = 60.0
BOUND: Final = 0.05
SLACK: Final = {"resident_mib": 0.0, "threads": 2.0, "descriptors": 2.0}


@dataclass
class Growth:
    """First and last thirds of the generations that lived long enough."""

    generations: int = 0
    judged: list[tuple[str, dict[str, tuple[float, float]]]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        rows = [("process generations, judged for growth", f"{self.generations}, {len(self.judged)}")]
        for name, figures in self.judged:
            words = [f"{key} {first:.1f} → {last:.1f}" for key, (first, last) in figures.items()]
            rows.append((f"    {name}", ", ".join(words)))
        return rows


class Sampler:
    def __init__(self, service: Service, warm_up: timedelta) -> None:
        self._service, self._warm_up = service, warm_up
        self._samples: defaultdict[tuple[str, int], list[tuple[float, Held]]] = defaultdict(list)

    def run(self, over: threading.Event) -> None:
        while not over.wait(INTERVAL_S):
            for name, process in list(self._service.processes.items()):
                if process.poll() is None and name != "redis":
                    self._samples[name, process.pid].append((time.monotonic(), held(process.pid)))

    def growth(self) -> Growth:
        found = Growth(len(self._samples))
        for (name, pid), samples in sorted(self._samples.items()):
            began, ended = samples[0][0], samples[-1][0]
            warm = loaded([item for item in samples if item[0] >= began + self._warm_up.total_seconds()])
            if not warm or ended - warm[0][0] < SHORTEST_S:
                continue
            third = len(warm) // 3
            figures: dict[str, tuple[float, float]] = {}
            for key, slack in SLACK.items():
                first, last = (
                    float(median(getattr(item, key) for _, item in part))
                    for part in (warm[:third], warm[-third:])
                )
                figures[key] = (first, last)
                if last > first * (1 + BOUND) + slack:
                    found.complaints.append(f"{name} {pid}: {key} grew from {first:.1f} to {last:.1f}")
            found.judged.append((f"{name}, {ended - began:.0f} s", figures))
        return found


def loaded(samples: Sequence[tuple[float, Held]]) -> Sequence[tuple[float, Held]]:
    """Those from the first on that holds 95 % of the median memory."""
    if not samples:
        return samples
    enough = (1 - BOUND) * median(item.resident_mib for _, item in samples)
    first = next(number for number, (_, item) in enumerate(samples) if item.resident_mib >= enough)
    return samples[first:]
