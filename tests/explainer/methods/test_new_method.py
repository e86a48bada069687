"""A method written outside of the package is one among the others: by name, in faithfulness and in a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from explainer.evaluation.comparison import SUMMARY, Comparison, TargetedTexts
from explainer.explained import PREDICTED, EncodedText, ExplainedModel, Target, TokenBatch
from explainer.faithfulness.measures import METRICS, faithfulness
from explainer.methods import METHODS, AbstractMethod, Random
from explainer.methods.base import AbstractBatchMethod, AbstractTextMethod, scorable_only
from explainer.methods.contrast import Contrast
from explainer.methods.loading import load_method, load_methods, parse_methods
from explainer.typing import RaggedScores, Scores
from tests.explainer.tools import encoded
from tests.families import explained

MODEL = explained("bert")
TARGET = Target.of([0, 1, 2, 0])


@dataclass(frozen=True)
class KeptAlone(AbstractTextMethod):
    """The objective of each token alone with the specials, less that of the specials alone."""

    name: ClassVar[str] = "kept_alone"
    factor: float = 1.0

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        scores = []
        for i, text in enumerate(texts):
            kept = [~text.scorable | (torch.arange(len(text)) == j) for j in range(len(text))]
            sequences = [text.tokens.select(~text.scorable), *(text.tokens.select(mask) for mask in kept)]
            objective = explained.evaluate(sequences, target[[i] * len(sequences)]).objective
            scores.append(self.factor * (objective[1:] - objective[0]))
        return scores

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable + 1)


@dataclass(frozen=True)
class EmbeddingNorm(AbstractBatchMethod):
    """The norm of each word embedding; the target does not matter."""

    name: ClassVar[str] = "embedding_norm"

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return scorable_only(explained.embedding(batch.input_ids).norm(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


@pytest.fixture(params=[KeptAlone, EmbeddingNorm], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[AbstractMethod]:
    """The method's class, known by its name within the test."""
    monkeypatch.setitem(METHODS, request.param.name, request.param)
    return request.param


def test_it_is_loaded_by_its_name_with_its_settings(kind: type[AbstractMethod]) -> None:
    assert load_method(kind.name) == kind()
    assert parse_methods([kind.name, f"mine={kind.name}"], {}).keys() == {kind.name, "mine"}
    assert load_method(kind.name, foil="runner_up") == Contrast(kind(), "runner_up")
    with pytest.raises(ValueError, match=rf"`settings` of method '{kind.name}': .*steps"):
        load_method(kind.name, steps=3)


def test_its_fields_are_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, KeptAlone.name, KeptAlone)
    method = load_method("kept_alone", factor=2.0)
    assert method.settings == {"method": "kept_alone", "factor": 2.0}
    twice, once = (m.attribute(MODEL, encoded(MODEL), TARGET).scores for m in (method, KeptAlone()))
    assert torch.equal(torch.cat(list(twice)), 2 * torch.cat(list(once)))


def test_it_gives_every_text_its_scores(kind: type[AbstractMethod]) -> None:
    texts = encoded(MODEL)
    attributions = kind().attribute(MODEL, texts, TARGET)
    for text, scores in zip(texts, attributions.scores, strict=True):
        assert scores.shape == (len(text),)
        assert (scores[~text.scorable] == 0).all()
        assert (scores[text.scorable] != 0).all()
    assert torch.equal(attributions.scores[2], kind().attribute(MODEL, texts[2:3], TARGET[2:3]).scores[0])


def test_it_explains_the_predicted_class_and_any_other(kind: type[AbstractMethod]) -> None:
    readout, attributions = kind().explain(MODEL, encoded(MODEL), [Target.of([PREDICTED] * 4), TARGET])
    assert torch.equal(attributions[0].target.choices, readout.predicted().choices)
    assert torch.equal(attributions[1].target.choices, TARGET.choices)


def test_its_faithfulness_is_measured(kind: type[AbstractMethod]) -> None:
    values = faithfulness(MODEL, kind().attribute(MODEL, encoded(MODEL), TARGET))
    assert values.keys() == set(METRICS)
    assert all(value.shape == (4,) and value.isfinite().all() for value in values.values())


def test_it_is_a_row_of_a_comparison(kind: type[AbstractMethod]) -> None:
    comparison = Comparison(load_methods({"mine": {"method": kind.name}, "random": {}}), ours="mine")
    comparison.update(MODEL, TargetedTexts(encoded(MODEL), TARGET))
    mine, other = comparison.records()
    assert (mine["method"], other["method"]) == ("mine", Random().label)
    assert mine["n"] == 4
    assert mine["difference_to"] == "random"
    values = faithfulness(MODEL, kind().attribute(MODEL, encoded(MODEL), TARGET))
    expected = (values["aopc_comprehensiveness"] - values["aopc_sufficiency"]).mean()
    assert mine[SUMMARY]["mean"] == pytest.approx(expected.item(), abs=1e-6)
