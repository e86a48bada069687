"""The best of several candidates by a metric on the text itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.faithfulness.measures import ALL_METRICS, HIGHER_IS_BETTER, METRICS, VALUE_METRICS, faithfulness
from explainer.methods import RPI, SIG, Random
from explainer.methods.base import AbstractTextMethod
from explainer.methods.best_of import BestOf
from explainer.methods.loading import load_method, row_label
from explainer.typing import RaggedScores
from tests.explainer.tools import encoded
from tests.families import TASKS, explained


@dataclass(frozen=True)
class Draws(AbstractTextMethod):
    """Random scores of several seeds; with `shift`, the same scores shifted, which rank alike."""

    name: ClassVar[str] = "draws"
    complete: ClassVar[bool] = True  # not so, but the wrapper is to hand it on
    n_candidates: int = 6
    shift: bool = False

    def candidates(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> list[Tensor]:
        seeds = range(self.n_candidates)
        drawn = [Random(seed=0 if self.shift else seed).attribute(explained, texts, target).scores for seed in seeds]
        return [
            torch.stack([of_seed[i] + seed * self.shift * text.scorable for seed, of_seed in enumerate(drawn)])
            for i, text in enumerate(texts)
        ]

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        return [of_text.mean(dim=0) for of_text in self.candidates(explained, texts, target)]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0


def check_best(model: ExplainedModel, metric: str) -> None:
    texts = encoded(model)
    target = model.predicted(texts)
    chosen = BestOf(Draws(), metric).attribute(model, texts, target)
    candidates = Draws().candidates(model, texts, target)
    values = torch.stack(
        [
            faithfulness(model, Attributions(texts, target, [of_text[k] for of_text in candidates]), (metric,))[metric]
            for k in range(6)
        ]
    )
    best = values.max(dim=0).values if HIGHER_IS_BETTER[metric] else values.min(dim=0).values
    assert torch.allclose(faithfulness(model, chosen, (metric,))[metric], best, atol=1e-6)
    places = [
        next(k for k in range(6) if torch.equal(of_text[k], scores))
        for of_text, scores in zip(candidates, chosen.scores, strict=True)
    ]
    assert len(set(places)) > 1


@pytest.mark.parametrize("metric", [*METRICS, "mask_lrp_aopc"])
def test_every_text_gets_its_own_best(metric: str) -> None:
    check_best(explained("bert"), metric)


@pytest.mark.parametrize("metric", VALUE_METRICS)
def test_every_text_of_a_regression_gets_its_own_best(metric: str) -> None:
    check_best(explained("bert", **TASKS["regression"]), metric)


def test_equal_candidates_give_the_first() -> None:
    model = explained("bert")
    target = model.predicted(encoded(model))
    for metric in ("sufficiency", "comprehensiveness"):
        chosen = BestOf(Draws(shift=True), metric).attribute(model, encoded(model), target).scores
        first = Random(seed=0).attribute(model, encoded(model), target).scores
        assert torch.equal(torch.cat(list(chosen)), torch.cat(list(first)))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`by` must be one of .*got 'accuracy'"):
        BestOf(Draws(), "accuracy")


def test_a_method_without_candidates_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`method` must be one that gives several candidates.*SIG"):
        BestOf(SIG(), "sufficiency")
    with pytest.raises(ValueError, match=r"`settings` of method 'sig': `method` must be one that gives several"):
        load_method("sig", best_by="sufficiency")


def test_it_is_labelled_as_a_best_of_under_any_row_s_label() -> None:
    method = BestOf(RPI(preset="paper"), "aopc_comprehensiveness")
    assert method.label == "rpi (best of 24 by aopc_comprehensiveness)"
    assert row_label("published", method) == "published (best of 24 by aopc_comprehensiveness)"


def test_settings_name_the_metric_and_build_the_method_again() -> None:
    method = BestOf(RPI(preset="paper", n_baselines=3), "sufficiency")
    settings = method.settings
    assert settings["best_by"] == "sufficiency"
    assert load_method(settings.pop("method"), **settings) == method


def test_completeness_and_bounds_are_those_of_the_method() -> None:
    assert BestOf(Draws(), "sufficiency").complete
    assert not BestOf(RPI(preset="paper"), "sufficiency").complete
    assert not BestOf(RPI(preset="paper"), "sufficiency").is_bound


def test_the_cost_counts_the_choice() -> None:
    """At most a pass per candidate and point of the curves: five for the areas, ten twice for MoRF and LeRF."""
    cost = {metric: BestOf(Draws(), metric).forward_equivalents(9) for metric in ALL_METRICS}
    assert cost["aopc_comprehensiveness"] == 3 + 6 * 5
    assert cost["sufficiency"] == 3 + 6
    assert cost["morf_lerf_area"] == 3 + 6 * 20
