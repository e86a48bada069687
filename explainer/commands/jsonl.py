"""JSON lines: the form in which commands read texts and attributions, one object per line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHUNK = 256
"""The number of lines that a command works on at once."""


class InputError(ValueError):
    """A line of an input file that cannot be used; the message names file and line."""

    def __init__(self, source: Path, number: int, reason: object) -> None:
        super().__init__(f"{source}, line {number}: {reason}")


def read_lines(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers; blank lines are skipped.

    Raises:
        InputError: when a line is no JSON object.
    """
    with source.open() as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(source, number, f"no JSON ({error}).") from error
            if not isinstance(record, dict):
                raise InputError(source, number, f"must be a JSON object, got {type(record).__name__}.")
            yield number, record


def read_texts(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, for files of texts: each object has a `text`, and may have a `text_pair`.

    Raises:
        InputError: when a line is no JSON object, or one of the two is no string.
    """
    for number, record in read_lines(source):
        for name, required in (("text", True), ("text_pair", False)):
            value = record.get(name)
            if not isinstance(value, str) and (required or value is not None):
                raise InputError(source, number, f"`{name}` must be a string, got {value!r:.60}.")
        yield number, record
