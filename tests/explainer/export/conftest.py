"""A tiny trained explainer with random weights, of any family, kind and task."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from explainer.explained import ExplainedModel
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import moved
from tests.families import explained

Pair = tuple[ExplainedModel, Amortized]


@pytest.fixture(scope="session")
def make() -> Callable[..., Pair]:
    def made(family: str = "bert", kind: str = "lora", **task: Any) -> Pair:
        model = copy.deepcopy(explained(family, **task))
        return model, Amortized(moved(model, kind))

    return made
