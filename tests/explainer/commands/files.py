"""Helpers of the tests of commands: JSON lines, and the probabilities of each task by the bare model's logits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PROBABILITIES: dict[str, Callable[[Tensor], Tensor | None]] = {
    "classification": lambda logits: logits.softmax(dim=-1),
    "multi_label": torch.sigmoid,
    "regression": lambda logits: None,
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, records: list[Any]) -> Path:
    """The file, with one record per line; a string is a line as it is."""
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return path
