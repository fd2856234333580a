"""How fast the network grades a study on a CPU: OpenVINO's graph beside torch, interleaved, the same slices.

    python -m benchmarks.inference --threads 2

Weights are the shipped checkpoint's, slices are noise. Each round runs every variant once, every other round
in reverse order; the first round is not counted. Ratios are medians of the rounds' own ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from model.card import default_checkpoint_folder
from model.checkpoint import load_checkpoint
from model.cpu_network import CpuNetwork
from model.space.stack import SLICES

BATCH = 8


def main() -> None:
    """Read the command line, time the variants and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.inference", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = default_checkpoint_folder()
    eager, channels_last = load_checkpoint(folder).network, load_checkpoint(folder).network
    channels_last.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    slices = torch.randn(BATCH, 3, 224, 224)
    turned = slices.to(memory_format=torch.channels_last)
    compiled = CpuNetwork(eager, arguments.threads)
    rounded = CpuNetwork(eager, arguments.threads, bfloat16=True)
    variants: dict[str, Callable[[], object]] = {
        "OpenVINO fp32 (the node)": lambda: compiled(slices),
        f"OpenVINO {'bf16' if rounded.bfloat16 else 'fp32, for want of bf16'}": lambda: rounded(slices),
        "torch, channels last": lambda: channels_last(turned),
        "torch": lambda: eager(slices),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for number in range(arguments.rounds + 1):
            for name in list(variants)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                variants[name]()
                if number:
                    seconds[name].append(time.perf_counter() - began)
    batches = len(range(SLICES.start, SLICES.stop)) / BATCH
    table = Table("network", "s a study", "vs OpenVINO", title=f"{arguments.threads} thread(s)")
    ours = next(iter(seconds.values()))
    for name, times in seconds.items():
        ratio = statistics.median(other / own for other, own in zip(times, ours, strict=True))
        table.add_row(name, f"{statistics.median(times) * batches:.1f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
