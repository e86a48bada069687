"""The typed calls give at run time what mypy takes them to give."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from explainer.attributor import Attributor
from tests.explainer.attributor import typed_calls
from tests.families import explained

CALLS = [value for value in vars(typed_calls).values() if getattr(value, "__module__", "") == typed_calls.__name__]


@pytest.mark.parametrize("calls", CALLS)
def test_a_call_gives_what_its_type_says(calls: Callable[[Attributor], None]) -> None:
    calls(Attributor.of(explained("bert"), "random"))


def test_mypy_checks_the_typed_calls() -> None:
    root = Path(__file__).parents[3]
    files = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert str(Path(typed_calls.__file__).relative_to(root)) in files
    assert len(CALLS) == 4
