"""KernelSHAP against Shapley values by enumeration, and its sum."""

from itertools import permutations
from math import factorial

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.methods import KernelShap
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import TEXTS

SHORT = "the film was great fun"


def shapley(model: ExplainedModel, text: str, target: int) -> Tensor:
    """The mean over all orders of what each token adds, the absent ones being the baseline token."""
    encoding = encoded(model, [text])[0]
    ids = encoding.tokens.input_ids
    places = encoding.scorable.nonzero()[:, 0].tolist()
    value: dict[frozenset[int], float] = {}

    def of(present: frozenset[int]) -> float:
        if present not in value:
            row = torch.tensor([i if j in present or j not in places else r for j, i in enumerate(ids.tolist())])
            value[present] = model.model(input_ids=row[None]).logits[0, target].item()
        return value[present]

    r = model.baseline_token_id
    scores = torch.zeros(len(ids), dtype=torch.float64)
    for order in permutations(places):
        for k, j in enumerate(order):
            scores[j] += of(frozenset(order[: k + 1])) - of(frozenset(order[:k]))
    return scores / factorial(len(places))


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_enough_samples_give_the_shapley_values(family: str) -> None:
    model = double(family)
    batch = batch_of(model, [SHORT])
    expected = shapley(model, SHORT, 1)
    errors = [relative_error(KernelShap(n_samples=n)(model, batch, torch.tensor([1]))[0], expected) for n in (12, 4000)]
    assert errors[1] < 0.03
    assert errors[1] < errors[0]


def test_a_token_alone_has_the_whole_difference() -> None:
    model = double("bert")
    scores = KernelShap()(model, batch_of(model, ["bad"]), torch.tensor([0]))[0]
    assert relative_error(scores, shapley(model, "bad", 0)) < 1e-5


@pytest.mark.parametrize("n_samples", [8, 100])
def test_the_scores_sum_to_the_whole_difference(n_samples: int) -> None:
    """Also with fewer samples than tokens."""
    model = double("bert")
    batch = batch_of(model)
    target = torch.tensor([0, 1, 2, 0])
    empty = batch.input_ids.masked_fill(batch.scorable, model.baseline_token_id)
    other = model.model(input_ids=empty, attention_mask=batch.attention_mask).logits
    expected = (model(batch) - other).gather(1, target[:, None])[:, 0]
    scores = KernelShap(n_samples=n_samples)(model, batch, target)
    assert relative_error(scores.sum(dim=1), expected) < 1e-3


def test_another_seed_has_other_subsets() -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:2])
    first, second = (KernelShap(n_samples=10, seed=seed)(model, batch, torch.tensor([0, 1])) for seed in (0, 1))
    assert relative_error(first, second) > 1e-3


def test_the_cost_is_a_forward_pass_a_subset() -> None:
    assert KernelShap(n_samples=9).forward_equivalents(4) == 9
