"""A tiny attributor with random weights, of any family and kind, and texts of its words."""

from collections.abc import Callable

import pytest

from explainer.attributor import Attributor
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import fresh, moved


@pytest.fixture(scope="session")
def make() -> Callable[..., Attributor]:
    def made(family: str = "bert", kind: str = "lora") -> Attributor:
        model = fresh(family)
        return Attributor(model, Amortized(moved(model, kind)))

    return made
