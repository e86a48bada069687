"""Every class adds up: two halves are the whole, and says which way is better."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from explainer import metrics
from explainer.metrics import MeanOverTexts

N = 12
Arguments = Sequence[Tensor | list[Tensor]]


def share(*shape: int) -> Tensor:
    return torch.rand(*shape) * 0.9 + 0.1


def scores() -> list[Tensor]:
    return [torch.randn(n) for n in range(3, 3 + N)]


def masks(chance: float) -> list[Tensor]:
    return [torch.rand(n) < chance for n in range(3, 3 + N)]


ARGUMENTS = {
    "Comprehensiveness": lambda: (share(N), share(N)),
    "Sufficiency": lambda: (share(N), share(N)),
    "LogOdds": lambda: (share(N), share(N)),
    "AOPCComprehensiveness": lambda: (share(N), share(N, 5)),
    "AOPCSufficiency": lambda: (share(N), share(N, 5)),
    "MaskLRPAOPC": lambda: (share(N), share(N, 9)),
    "MaskLRPLogOdds": lambda: (share(N), share(N, 9)),
    "MoRFLeRFArea": lambda: (torch.randn(N, 11), torch.randn(N, 11)),
    "NormalisedAOPC": lambda: (torch.rand(N), torch.zeros(N), torch.arange(N) / N),  # not defined on the first
    "AnswerPrecision": lambda: (scores(), masks(0.5), masks(1.0)),
}
LOWER = {"Sufficiency", "LogOdds", "AOPCSufficiency", "MaskLRPLogOdds"}


def updated(name: str, *parts: Arguments) -> MeanOverTexts:
    metric = getattr(metrics, name)()
    for part in parts:
        metric.update(*part)
    return metric


@pytest.mark.parametrize("name", ARGUMENTS)
def test_two_halves_are_the_whole(name: str) -> None:
    whole = ARGUMENTS[name]()
    halves = [[argument[part] for argument in whole] for part in (slice(0, 5), slice(5, N))]
    expected = getattr(metrics, name).function(*whole).nanmean()
    assert torch.allclose(updated(name, *halves).compute(), expected, atol=1e-6)
    assert torch.allclose(updated(name, whole).compute(), expected, atol=1e-6)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_forgets_when_reset(name: str) -> None:
    first, second = ARGUMENTS[name](), ARGUMENTS[name]()
    metric = updated(name, first)
    metric.reset()
    metric.update(*second)
    assert torch.equal(metric.compute(), updated(name, second).compute())


def test_every_class_says_which_way_is_better() -> None:
    higher = {name: getattr(metrics, name).higher_is_better for name in ARGUMENTS}
    assert higher == {name: name not in LOWER for name in ARGUMENTS}


def test_a_model_that_breaks_is_not_averaged_away() -> None:
    metric = updated("Comprehensiveness", (torch.tensor([0.5, torch.nan]), torch.tensor([0.5, 0.5])))
    assert metric.compute().isnan()
