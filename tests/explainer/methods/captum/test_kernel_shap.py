"""KernelSHAP against Shapley values by enumeration, and its sum."""

from dataclasses import replace
from itertools import permutations
from math import factorial

import pytest
import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.methods import KernelShap
from tests.explainer.tools import double, encoded, relative_error
from tests.families import TEXTS

SHORT = "the film was great fun"


def scores(method: KernelShap, model: ExplainedModel, texts: list[str], target: Target) -> list[Tensor]:
    return list(method.attribute(model, encoded(model, texts), target).scores)


def shapley(model: ExplainedModel, text: EncodedText, target: int) -> Tensor:
    """The mean over all orders of what each unit adds, the absent ones being the baseline token."""
    ids, units = text.tokens.input_ids, text.unit_masks
    value: dict[frozenset[int], float] = {}

    def of(present: frozenset[int]) -> float:
        if present not in value:
            absent = torch.stack([unit if k not in present else unit & False for k, unit in enumerate(units)]).any(
                dim=0
            )
            changed = ids.masked_fill(absent, model.baseline_token_id)
            value[present] = model.model(input_ids=changed[None]).logits[0, target].item()
        return value[present]

    total = torch.zeros(len(ids), dtype=torch.float64)
    for order in permutations(range(len(units))):
        for k, j in enumerate(order):
            change = of(frozenset(order[: k + 1])) - of(frozenset(order[:k]))
            total[units[j]] += change / int(units[j].sum())
    return total / factorial(len(units))


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_enough_samples_give_the_shapley_values(family: str) -> None:
    model = double(family)
    expected = shapley(model, encoded(model, [SHORT])[0], 1)
    errors = [
        relative_error(scores(KernelShap(n_samples=n), model, [SHORT], Target.of([1]))[0], expected) for n in (12, 4000)
    ]
    assert errors[1] < 0.06
    assert errors[1] < errors[0]


def test_enough_samples_give_the_shapley_values_of_units() -> None:
    model = double("gpt2")
    text = encoded(model, ["the film was great fun and the plot was good"])[0]
    text = replace(text, units=tuple(place // 3 for place in range(len(text))))
    fitted = KernelShap(n_samples=2000).attribute(model, [text], Target.of([1])).scores[0]
    assert relative_error(fitted, shapley(model, text, 1)) < 0.03


def test_a_unit_alone_has_the_whole_difference() -> None:
    model = double("bert")
    for text in encoded(model, ["bad", "good film"]):
        text = replace(text, units=(0,) * len(text))
        fitted = KernelShap().attribute(model, [text], Target.of([0])).scores[0]
        assert relative_error(fitted, shapley(model, text, 0)) < 1e-5


@pytest.mark.parametrize("n_samples", [8, 100])
@pytest.mark.parametrize("foil", [None, [1, 2, 0, 2]])
def test_the_scores_sum_to_the_whole_difference(n_samples: int, foil: list[int] | None) -> None:
    """Also with fewer samples than tokens, and less the foil's difference."""
    model, target = double("bert"), Target.of([0, 1, 2, 0], foil)
    differences = []
    for i, text in enumerate(encoded(model)):
        empty = text.tokens.input_ids.masked_fill(text.scorable, model.baseline_token_id)
        full, none = (model.model(input_ids=ids[None]).logits[0] for ids in (text.tokens.input_ids, empty))
        change = full - none
        differences.append(change[target.classes[i]] - (0 if foil is None else change[foil[i]]))
    total = torch.stack([of.sum() for of in scores(KernelShap(n_samples=n_samples), model, TEXTS, target)])
    assert relative_error(total, torch.stack(differences)) < 1e-3


def test_another_seed_has_other_subsets() -> None:
    model = double("bert")
    first, second = (
        torch.cat(scores(KernelShap(n_samples=10, seed=seed), model, TEXTS[:2], Target.of([0, 1]))) for seed in (0, 1)
    )
    assert relative_error(first, second) > 1e-3


def test_the_cost_is_a_forward_pass_per_subset() -> None:
    assert KernelShap(n_samples=9).forward_equivalents(4) == 9
