"""A tiny attributor with random weights, of any family and kind, and texts of its words."""

from collections.abc import Callable

import pytest
import torch

from explainer.attributor import Attributor
from explainer.methods.amortized import Amortized
from explainer.models import EXPLAINERS
from tests.explainer.tools import fresh


@pytest.fixture(scope="session")
def make() -> Callable[..., Attributor]:
    def made(family: str = "bert", kind: str = "lora") -> Attributor:
        model = fresh(family)
        torch.manual_seed(1)
        explainer = EXPLAINERS[kind](model).eval()
        with torch.no_grad():
            for parameter in explainer.trained(model).values():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return Attributor(model, Amortized(explainer))

    return made
