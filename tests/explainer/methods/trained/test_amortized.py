"""A trained explainer as a method: its scores, for the asked class, without a graph."""

import pytest
import torch
import torch.nn.functional as F

from explainer.explainers import AbstractMaskExplainer, SeparateExplainer, SideExplainer
from explainer.methods.run import scores_of
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, encoded
from tests.families import explained

MODEL = explained("bert")
TARGET = torch.tensor([0, 1, 2, 0])


def method(kind: type[AbstractMaskExplainer] = SeparateExplainer) -> Amortized:
    torch.manual_seed(0)
    return Amortized(kind(MODEL).eval())


def test_scores_are_the_explainer_s_for_a_one_hot_label() -> None:
    amortized, batch = method(), batch_of(MODEL)
    expected = amortized.explainer(MODEL, batch, F.one_hot(TARGET, 3).float())
    found = amortized(MODEL, batch, TARGET)
    assert torch.equal(found, expected.detach())
    assert not found.requires_grad
    assert (found[~batch.scorable] == 0).all()


def test_another_target_has_other_scores() -> None:
    amortized, batch = method(), batch_of(MODEL)
    assert not torch.allclose(amortized(MODEL, batch, TARGET), amortized(MODEL, batch, (TARGET + 1) % 3))


@pytest.mark.parametrize("kind", [SeparateExplainer, SideExplainer])
def test_predicting_gives_the_logits_and_the_scores_of_a_call(kind: type[AbstractMaskExplainer]) -> None:
    amortized, batch = method(kind), batch_of(MODEL)
    logits, score = amortized.predicting(MODEL, batch)
    assert torch.equal(logits, MODEL(batch))
    found = score(TARGET)
    assert torch.equal(found, amortized(MODEL, batch, TARGET))
    assert not found.requires_grad
    assert not logits.requires_grad


def test_it_runs_over_texts_as_any_method() -> None:
    amortized = method()
    found = scores_of(amortized, MODEL, encoded(MODEL), TARGET)
    assert [len(scores) for scores in found] == [len(text) for text in encoded(MODEL)]


def test_it_has_no_settings_to_cache_by() -> None:
    with pytest.raises(TypeError, match="weights, not settings"):
        _ = method().settings


def test_the_cost_is_what_the_explanation_adds_to_the_prediction() -> None:
    assert method().forward_equivalents(50) == 1
    side = SideExplainer(MODEL, width=8, rank=2, heads=2)
    assert 0 < Amortized(side).forward_equivalents(50) < 1
