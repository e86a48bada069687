"""The states of random generators come back as they were, through a file that holds plain values."""

import random
from pathlib import Path

import numpy as np
import torch

from lightning_modules.random_states import random_states, set_random_states


def draws() -> tuple[float, float, float, list[float]]:
    return random.random(), random.gauss(0, 1), float(np.random.standard_normal()), torch.randn(3).tolist()


def test_the_same_numbers_are_drawn_again(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    draws()  # a Gaussian number waits in Python's generator and in NumPy's
    torch.save(random_states(cpu), tmp_path / "states")
    expected = [draws() for _ in range(3)]
    set_random_states(torch.load(tmp_path / "states", weights_only=True), cpu)
    assert [draws() for _ in range(3)] == expected
