"""What is written is read by strict readers."""

import json
import math

import pytest

from explainer.storage.strict_json import dumps


def test_nan_is_null_at_any_depth_and_the_rest_is_as_it_was() -> None:
    value = {"a": [1.5, math.nan, ("x", math.nan)], "b": {"c": math.nan}, "d": None, "e": "nan", "f": 3}
    assert json.loads(dumps(value, indent=2)) == {
        "a": [1.5, None, ["x", None]],
        "b": {"c": None},
        "d": None,
        "e": "nan",
        "f": 3,
    }


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinity_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        dumps([value])
