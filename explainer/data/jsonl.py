"""JSON lines: the form in which commands read texts and attributions, one object per line."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from explainer.data.lines import InputError, read_lines

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_objects(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers; blank lines are skipped.

    Raises:
        InputError: when a line is no JSON object in UTF-8.
    """
    for number, line in read_lines(source):
        if not line.strip():
            continue
        try:
            record = parse(line)
        except ValueError as error:
            raise InputError(source, number, f"no JSON ({error}).") from error
        if not isinstance(record, dict):
            raise InputError(source, number, f"must be a JSON object, got {type(record).__name__}.")
        yield number, record


def read_texts(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same, for files of texts: each object has a `text`, and may have a `text_pair`.

    Raises:
        InputError: when a line is no JSON object, or one of the two is no string.
    """
    for number, record in read_objects(source):
        check_text(source, number, record, "text", required=True)
        check_text(source, number, record, "text_pair", required=False)
        yield number, record


def check_text(source: Path, number: int, record: dict[str, Any], name: str, required: bool) -> None:
    """Refuse a text that is no string.

    Raises:
        InputError: when it is none, or missing although it is `required`.
    """
    value = record.get(name)
    if not isinstance(value, str) and (required or value is not None):
        raise InputError(source, number, f"`{name}` must be a string, got {value!r:.60}.")


def parse(text: str) -> Any:
    """JSON whose content can be written as JSON again, in UTF-8.

    Raises:
        ValueError: when it is no JSON: also for NaN and infinity, for numbers beyond double precision, for nesting
            deeper than Python's own, and for one half of a surrogate pair, which is no character.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is one half of a surrogate pair, and no character") from error
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number:.20} is too large a number")
    return value
