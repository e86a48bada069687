"""Perturbation curves against a naive loop, over every family, task and operator."""

from typing import Any, get_args

import pytest
import torch

from explainer.explained import Attributions, Target, Tokens
from explainer.faithfulness.curves import (
    BLANK_BOTTOM,
    BLANK_TOP,
    DELETE_REST,
    DELETE_TOP,
    PERCENTS,
    PLAN,
    REPLACE_TOP,
    Operator,
    Perturbation,
    Plan,
    Which,
    curves,
    joined,
)
from explainer.faithfulness.perturbation import top_k
from tests.explainer.faithfulness.straight import attributions_of, logits_without, probability, taken_out
from tests.explainer.tools import bit_equal_logits
from tests.families import FAMILIES, TASKS, explained

OPERATORS = get_args(Operator)
EVERY = [Perturbation(operator, which) for operator in OPERATORS for which in get_args(Which)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_curves_equal_a_naive_loop(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model)
    curve = curves(model, given)
    assert list(curve.plan) == [DELETE_TOP, DELETE_REST, REPLACE_TOP]
    assert (curve.probabilities is None) == (task == "regression")
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):
        choice = int(given.target.classes[i])
        whole = logits_without(model, text, set(), "delete")
        assert curve.whole_value[i].item() == pytest.approx(whole[choice].item(), abs=1e-5)
        for perturbation, percents in PLAN.items():
            for column, percent in enumerate(percents):
                taken = taken_out(text, scores, perturbation.which, percent)
                logits = logits_without(model, text, taken, perturbation.operator)
                value = curve.value(perturbation)[i, column].item()
                assert value == pytest.approx(logits[choice].item(), abs=1e-5)
                if task != "regression":
                    found = curve.probability(perturbation)[i, column].item()
                    assert found == pytest.approx(probability(model, logits, choice), abs=1e-5)


@pytest.mark.parametrize("perturbation", EVERY, ids=str)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_every_operator_on_any_tokens_equals_a_naive_loop(family: str, perturbation: Perturbation) -> None:
    model = explained(family)
    given = attributions_of(model)
    percents = (20.0, 50.0, 100.0)
    found = curves(model, given, {perturbation: percents}).value(perturbation)
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):
        for column, percent in enumerate(percents):
            taken = taken_out(text, scores, perturbation.which, percent)
            logits = logits_without(model, text, taken, perturbation.operator)
            assert found[i, column].item() == pytest.approx(logits[i % 3].item(), abs=1e-5)


def test_where_k_is_0_nothing_is_perturbed() -> None:
    model = explained("bert")
    given = attributions_of(model, ["bad", "", "fun"])
    curve = curves(model, given, dict.fromkeys(EVERY, (20.0, 50.0)))
    for perturbation in EVERY:
        assert torch.equal(curve.probability(perturbation), curve.whole_probability[:, None].expand(3, 2))
        assert torch.equal(curve.value(perturbation), curve.whole_value[:, None].expand(3, 2))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_all_is_the_whole_text_to_the_bit(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    curve = curves(model, attributions_of(model), {DELETE_TOP: (100.0,), DELETE_REST: (100.0,)})
    assert torch.equal(curve.value(DELETE_REST)[:, 0], curve.whole_value)
    assert not torch.equal(curve.value(DELETE_TOP)[:, 0], curve.whole_value)


def test_tied_scores_are_taken_from_the_front() -> None:
    model = explained("bert")
    given = attributions_of(model)
    zeros = [torch.zeros(len(text)) for text in given.texts]
    falling = [-torch.arange(len(text)).float() for text in given.texts]
    found, expected = (curves(model, Attributions(given.texts, given.target, s)) for s in (zeros, falling))
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_taken_out_is_the_same_from_either_end(operator: Operator) -> None:
    model = explained("bert")
    top, bottom, rest = (Perturbation(operator, which) for which in ("top", "bottom", "rest"))
    plan = {top: (50.0, 100.0), bottom: (50.0, 100.0), rest: (50.0,)}
    curve = curves(model, attributions_of(model), plan)
    assert torch.equal(curve.value(top, (100.0,)), curve.value(bottom, (100.0,)))
    assert not torch.equal(curve.value(top, (50.0,)), curve.value(bottom, (50.0,)))
    even = torch.tensor([text.n_scorable % 2 == 0 for text in attributions_of(model).texts])
    assert even.any()
    assert torch.equal(curve.value(bottom, (50.0,))[even], curve.value(rest, (50.0,))[even])


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_blanking_is_an_edit_of_the_embeddings(family: str) -> None:
    model = explained(family)
    given = attributions_of(model)
    curve = curves(model, given, {BLANK_TOP: (50.0,), BLANK_BOTTOM: (50.0,)})
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):
        for sign, perturbation in ((1, BLANK_TOP), (-1, BLANK_BOTTOM)):
            kept = ~top_k(sign * scores, text.scorable, text.n_scorable // 2)[None, :, None]
            value = model.objective(model.collate([text]), given.target[i : i + 1], edit=lambda e, kept=kept: e * kept)
            assert curve.value(perturbation)[i, 0].item() == pytest.approx(value.item(), abs=1e-5)


def test_hide_is_refused_where_a_decoder_reads_the_text_a_second_time() -> None:
    model = explained("t5")
    with pytest.raises(ValueError, match=r"operator 'hide' does not reach .* use 'delete', 'replace' or 'blank'"):
        curves(model, attributions_of(model), {Perturbation("hide", "top"): (50.0,)})


def test_curves_are_of_the_target() -> None:
    model = explained("bert")
    given = attributions_of(model)
    curve = curves(model, given, {DELETE_REST: (100.0,)})
    logits = model.predict([text.tokens for text in given.texts]).logits[:, 0]
    texts, classes = torch.arange(len(given)), given.target.classes
    assert torch.equal(curve.whole_value, logits[texts, classes])
    assert torch.equal(curve.whole_probability, logits.softmax(dim=-1)[texts, classes])


def test_a_foil_changes_no_curve() -> None:
    """Faithfulness is measured on the target's own probability and value, whatever it is contrasted with."""
    model = explained("bert")
    given = attributions_of(model)
    foil = Target(given.target.choices, (given.target.choices + 1) % 3, "log_prob")
    contrast = curves(model, Attributions(given.texts, foil, given.scores))
    assert torch.equal(contrast.values, curves(model, given).values)


def test_columns_are_found_by_perturbation_and_percent() -> None:
    model = explained("bert")
    given = attributions_of(model)
    curve = curves(model, given, {DELETE_REST: (50.0, 20.0), DELETE_TOP: (20.0,)})
    for perturbation, percent in ((DELETE_REST, 20.0), (DELETE_REST, 50.0), (DELETE_TOP, 20.0)):
        alone = curves(model, given, {perturbation: (percent,)})
        found = curve.probability(perturbation, (percent,))
        assert torch.allclose(found, alone.probability(perturbation), atol=1e-6)
        assert torch.allclose(curve.value(perturbation, (percent,)), alone.values[:, 1:], atol=1e-6)
    with pytest.raises(ValueError, match=r"`percents` of delete-top must be of \(20.0,\), got \[33.0\]"):
        curve.probability(DELETE_TOP, (20.0, 33.0))
    with pytest.raises(ValueError, match=r"`percents` of blank-top must be of \(\)"):
        curve.value(BLANK_TOP, (20.0,))


def test_a_regression_s_curves_have_no_probabilities() -> None:
    model = explained("bert", **TASKS["regression"])
    curve = curves(model, attributions_of(model))
    for read in (lambda: curve.whole_probability, lambda: curve.probability(DELETE_TOP)):
        with pytest.raises(ValueError, match=r"no probabilities.*read `value`"):
            read()


def test_joined_plans_have_every_percent_once() -> None:
    plans: list[Plan] = [{DELETE_REST: (20.0, 50.0)}, {DELETE_TOP: (5.0,), DELETE_REST: (1.0, 20.0)}]
    assert joined(plans) == {DELETE_REST: (1.0, 20.0, 50.0), DELETE_TOP: (5.0,)}
    assert joined([]) == {}
    assert PERCENTS == (1.0, 5.0, 10.0, 20.0, 50.0)


@pytest.mark.parametrize("n", [1, 2, 7, 9, 18, 26, 36])
def test_ninths_of_the_tokens_are_counted_exactly(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    (text,) = model.encode([" ".join(["a"] * n)])
    counts: list[int] = []
    evaluate = type(model).evaluate

    def spy(self: Any, sequences: list[Tokens], target: Target) -> Any:
        counts.extend(int((tokens.input_ids == model.baseline_token_id).sum()) for tokens in sequences)
        return evaluate(self, sequences, target)

    # On the class: undone on the shared model itself, the patch would leave an attribute there.
    monkeypatch.setattr(type(model), "evaluate", spy)
    given = Attributions([text], Target.of([0]), [torch.arange(len(text)).float()])
    curves(model, given, {REPLACE_TOP: tuple(100 * step / 9 for step in range(1, 10))})
    assert text.n_scorable == n
    assert counts[1:] == [n * step // 9 for step in range(1, 10)]


def test_nan_scores_are_refused() -> None:
    model = explained("bert")
    given = attributions_of(model)
    broken = [torch.full((len(text),), torch.nan) for text in given.texts]
    with pytest.raises(ValueError, match="NaN"):
        curves(model, Attributions(given.texts, given.target, broken))


def test_no_texts_have_empty_curves() -> None:
    curve = curves(explained("bert"), Attributions([], Target.of([]), []))
    assert curve.values.shape == (0, 16)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_model_is_as_it_was(operator: Operator) -> None:
    model = explained("bert")
    with bit_equal_logits(model):
        curves(model, attributions_of(model), {Perturbation(operator, "top"): (50.0,)})
