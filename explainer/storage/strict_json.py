"""JSON as the standard has it: without NaN and infinity, which other readers refuse."""

import json
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """The value as JSON, with null for NaN: a metric that is not defined on a text.

    Args:
        options: of `json.dumps`.

    Raises:
        ValueError: when a number is infinite; no result of this package is.

    >>> dumps({"mean": float("nan"), "values": [1.0, float("nan")]})
    '{"mean": null, "values": [1.0, null]}'
    """
    return json.dumps(_without_nan(value), allow_nan=False, **options)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and value != value else value
