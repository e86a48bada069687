"""Memory of one process that explains many texts: does it grow after the warm-up?

python benchmarks/memory.py [--method checkpoints/demo-side] [--texts 100000]

Texts are 2 to 12 words drawn at random, so that lengths and padded shapes vary. They are explained in lists of 500.
Printed are the resident memory after the warm-up and after each tenth of the texts, and the growth since the warm-up:
of the last value, and of the highest.
"""

import random
from pathlib import Path
from time import perf_counter

import torch
from jsonargparse import auto_cli

from explainer import Attributor

WORDS = "the a film plot was is good bad great awful not very really fun dull and but of it this one so nothing moves"
AT_ONCE = 500


def resident() -> float:
    """The resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main(
    method: str = "checkpoints/demo-side", texts: int = 100_000, warm_up: int = 5000, threads: int = 1, seed: int = 0
) -> None:
    """Measure and print.

    Args:
        method: the folder or hub id of an exported attributor.
        texts: how many texts are explained after the warm-up.
        warm_up: how many texts before.
        threads: of the processor.
        seed: of the texts.
    """
    torch.set_num_threads(threads)
    attributor, draw, words = Attributor.from_pretrained(method), random.Random(seed), WORDS.split()

    def explain(n: int) -> None:
        for start in range(0, n, AT_ONCE):
            count = min(AT_ONCE, n - start)
            attributor([" ".join(draw.choices(words, k=draw.randint(2, 12))) for _ in range(count)])

    explain(warm_up)
    first, began = resident(), perf_counter()
    print(f"after {warm_up} texts: {first:.1f} MB", flush=True)
    values = []
    for tenth in range(10):
        explain(texts // 10)
        values.append(resident())
        print(f"after {(tenth + 1) * (texts // 10)} more: {values[-1]:.1f} MB", flush=True)
    last, highest = (100 * (value / first - 1) for value in (values[-1], max(values)))
    print(f"growth {last:+.2f} %, highest {highest:+.2f} %, in {perf_counter() - began:.0f} s")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
