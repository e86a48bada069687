"""Contrast: the same method on a target with a foil, or with another score."""

from dataclasses import replace

import pytest
import torch

from explainer.explained import PREDICTED, EncodedText, ExplainedModel, Readout, Target
from explainer.methods import RPI, SIG, AbstractMethod, AttnLRP, GreedyDeletion, InputXGradient, KernelShap
from explainer.methods.best_of import BestOf
from explainer.methods.contrast import Contrast
from explainer.methods.loading import load_method, row_label
from tests.explainer.tools import encoded
from tests.families import TASKS, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])
METHODS = [SIG(), AttnLRP(), BestOf(RPI(baseline="gaussian", n_baselines=2, n_steps=2), "sufficiency")]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)


def runner_up(model: ExplainedModel, text: EncodedText, target: int) -> int:
    logits = model.model(input_ids=text.tokens.input_ids[None]).logits[0].tolist()
    return max((c for c in range(len(logits)) if c != target), key=logits.__getitem__)


def check_equal(method: AbstractMethod, plain: AbstractMethod, given: Target, asked: Target) -> None:
    """`method` asked of `given` is `plain` asked of `asked`, and says so."""
    model = explained("bert")
    attributions = method.attribute(model, encoded(model), given)
    expected = plain.attribute(model, encoded(model), asked)
    assert torch.equal(torch.cat(list(attributions.scores)), torch.cat(list(expected.scores)))
    assert attributions.target.key == asked.key


@every_method
def test_a_foil_is_a_label_or_an_index(method: AbstractMethod) -> None:
    target = Target.of([0, 1, 0, 0])
    for foil in (2, "LABEL_2", "2"):
        check_equal(Contrast(method, foil), method, target, Target.of([0, 1, 0, 0], [2] * 4))


@every_method
def test_a_runner_up_is_each_text_s_own(method: AbstractMethod) -> None:
    model = explained("bert")
    foil = [runner_up(model, text, c) for text, c in zip(encoded(model), TARGET.classes.tolist(), strict=True)]
    check_equal(Contrast(method, "runner_up"), method, TARGET, Target.of(TARGET.classes, foil))


@every_method
@pytest.mark.parametrize("score", ["log_prob", "log_odds"])
def test_a_score_replaces_the_target_s(method: AbstractMethod, score: str) -> None:
    check_equal(Contrast(method, score=score), method, TARGET, replace(TARGET, score=score))


def test_a_foil_and_a_score_go_together() -> None:
    target = Target.of([0, 1, 0, 0])
    asked = Target.of([0, 1, 0, 0], [2] * 4, "log_prob")
    check_equal(Contrast(SIG(), 2, "log_prob"), SIG(), target, asked)


def test_without_a_foil_of_its_own_the_target_s_stays() -> None:
    target = Target.of([0, 1, 0, 0], [2] * 4)
    check_equal(Contrast(SIG(), score="log_odds"), SIG(), target, replace(target, score="log_odds"))
    check_equal(Contrast(SIG(), 1), SIG(), Target.of([0, 0, 0, 0], [2] * 4), Target.of([0] * 4, [1] * 4))


@pytest.mark.parametrize("foil", [1, "runner_up"])
def test_explain_takes_the_runner_up_from_its_own_prediction(foil: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = explained("bert"), []
    predict = ExplainedModel.predict

    def counted(self: ExplainedModel, sequences: list) -> Readout:
        calls.append(len(sequences))
        return predict(self, sequences)

    texts = encoded(model, TEXTS[:2])
    targets = [Target.of([0, 2]), Target.of([2, 0])]
    method = Contrast(InputXGradient(), foil)
    expected = [method.attribute(model, texts, target) for target in targets]
    monkeypatch.setattr(ExplainedModel, "predict", counted)
    readout, attributions = method.explain(model, texts, targets)
    assert not calls  # a batch method predicts within the pass that it explains
    assert torch.equal(readout.logits.argmax(dim=-1), predict(model, [text.tokens for text in texts]).logits.argmax(-1))
    for ours, theirs in zip(attributions, expected, strict=True):
        assert ours.target.key == theirs.target.key
        assert torch.allclose(torch.cat(list(ours.scores)), torch.cat(list(theirs.scores)), atol=1e-5)


def test_explain_contrasts_the_predicted_class() -> None:
    model = explained("bert")
    texts = encoded(model)
    _, (attributions,) = Contrast(SIG(), "runner_up").explain(model, texts, [Target.of([PREDICTED] * 4)])
    order = model.predict([text.tokens for text in texts]).logits[:, 0].argsort(dim=1, descending=True)
    assert torch.equal(attributions.target.choices[:, 0], order[:, 0])
    assert attributions.target.foil is not None
    assert torch.equal(attributions.target.foil[:, 0], order[:, 1])


def test_the_target_cannot_be_its_own_foil() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`foil` is the target of text 1 itself.*'runner_up'"):
        Contrast(SIG(), 1).attribute(model, encoded(model), TARGET)


def test_an_unknown_foil_is_refused_with_the_labels() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`foil` must be 'runner_up', one of the labels .*got 'sarcasm'"):
        Contrast(SIG(), "sarcasm").attribute(model, encoded(model), TARGET)


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`score` must be one of logit, log_prob, log_odds, got 'odds'"):
        Contrast(SIG(), score="odds")


def test_a_regression_has_no_log_probability_and_no_runner_up() -> None:
    model = explained("bert", **TASKS["regression"])
    target = Target.of([0] * 4)
    with pytest.raises(ValueError, match=r"`score` 'log_prob' needs probabilities.*a regression.*use 'logit'"):
        Contrast(SIG(), score="log_prob").attribute(model, encoded(model), target)
    with pytest.raises(ValueError, match="has one output only"):
        Contrast(SIG(), "runner_up").attribute(model, encoded(model), target)


def test_it_is_labelled_under_any_row_s_label() -> None:
    assert Contrast(AttnLRP()).label == "attn_lrp"
    assert Contrast(AttnLRP(), "runner_up").label == "attn_lrp (against runner_up)"
    assert Contrast(AttnLRP(), 2, "log_prob").label == "attn_lrp (log_prob against 2)"
    assert row_label("other", Contrast(AttnLRP(), score="log_odds")) == "other (log_odds)"
    assert Contrast(GreedyDeletion(), 0).label == "greedy_deletion (bound) (against 0)"


def test_settings_build_the_method_again() -> None:
    for method in (Contrast(SIG(n_steps=3), "runner_up"), Contrast(METHODS[2], 1, "log_prob")):
        settings = method.settings
        assert load_method(settings.pop("method"), **settings) == method


def test_completeness_and_bounds_are_those_of_the_method() -> None:
    assert Contrast(KernelShap(), 1).complete
    assert not Contrast(SIG(), 1).complete
    assert Contrast(GreedyDeletion(), 1).is_bound
    assert not Contrast(SIG(), 1).is_bound


def test_only_the_runner_up_costs_a_pass() -> None:
    assert Contrast(SIG(), "runner_up").forward_equivalents(7) == 8
    assert Contrast(SIG(), 1, "log_prob").forward_equivalents(7) == 7
