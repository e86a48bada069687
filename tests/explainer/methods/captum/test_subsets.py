"""The contract of captum's methods on one text at a time: units' scores at their tokens, draws of the text alone."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from explainer.explained import Target
from explainer.methods import KernelShap, Lime
from explainer.methods.captum.forward import TextForward
from explainer.methods.captum.subsets import AbstractPresenceMethod, AbstractSubsetMethod
from tests.explainer.tools import encoded
from tests.families import TEXTS, explained

MODEL = explained("bert")


@dataclass(frozen=True)
class Ids(AbstractPresenceMethod):
    """Scores a unit by ten times the id of its first token, plus the target."""

    name: ClassVar[str] = "ids"

    def unit_scores(self, forward: TextForward) -> Tensor:
        first = torch.stack([forward.text.tokens.input_ids[unit][0] for unit in forward.units])
        return (first * 10 + forward.target.classes).double()

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


def test_each_unit_s_score_lies_at_its_tokens() -> None:
    texts = encoded(MODEL, [*TEXTS, ""])
    attributions = Ids().attribute(MODEL, texts, Target.of([0, 1, 2, 0, 1]))
    for text, scores, c in zip(texts, attributions.scores, [0, 1, 2, 0, 1], strict=True):
        assert scores.tolist() == ((text.tokens.input_ids * 10 + c) * text.scorable).tolist()
    grouped = replace(texts[0], units=(0, 1, 1, 2, 2, 2, 3))
    scores = Ids().attribute(MODEL, [grouped], Target.of([0])).scores[0]
    ids = grouped.tokens.input_ids
    expected = [0, ids[1] * 5, ids[1] * 5, *[ids[3] * 10 / 3] * 3, 0]
    assert torch.allclose(scores, torch.tensor([float(e) for e in expected]))


@pytest.mark.parametrize("method", [Lime(n_samples=12), KernelShap(n_samples=12)], ids=lambda method: method.name)
def test_all_subsets_go_through_one_pooled_prediction(
    method: AbstractSubsetMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    evaluate = type(MODEL).evaluate

    def counted(self: Any, sequences: Any, target: Target) -> Any:
        calls.append(len(sequences))
        return evaluate(self, sequences, target)

    monkeypatch.setattr(type(MODEL), "evaluate", counted)
    method.attribute(MODEL, encoded(MODEL, TEXTS[:2]), Target.of([0, 1]))
    assert calls == [12, 12]


@pytest.mark.parametrize("method", [Lime(n_samples=12), KernelShap(n_samples=12)], ids=lambda method: method.name)
def test_the_global_generators_are_left_alone(method: AbstractSubsetMethod) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    method.attribute(MODEL, encoded(MODEL, TEXTS[:2]), Target.of([0, 1]))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
