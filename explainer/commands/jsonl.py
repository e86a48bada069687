"""JSON lines: the form in which commands read texts and attributions, one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 256
"""Lines that a command works on at once."""


class InputError(ValueError):
    """A line of an input file that cannot be used; the message names file and line."""


def read_lines(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers; blank lines are passed over."""
    with source.open() as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{source}, line {number}: no JSON ({error}).") from error
            if not isinstance(row, dict):
                raise InputError(f"{source}, line {number}: must be a JSON object, got {type(row).__name__}.")
            yield number, row
