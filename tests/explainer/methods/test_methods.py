"""Properties that every method has on every family and task."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from transformers import AttentionInterface

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.methods import (
    METHODS,
    RPI,
    SIG,
    AbstractMethod,
    ContextCite,
    GradientShap,
    IntegratedGradients,
    KernelShap,
    LeaveOneOut,
    Lime,
    MaskLRP,
    SubsetRegression,
)
from explainer.methods.base import AbstractBatchMethod
from explainer.methods.best_of import BestOf
from explainer.methods.contrast import Contrast
from explainer.methods.loading import load_method
from tests.explainer.tools import batch_of, bit_equal_logits, double, encoded, fresh, relative_error
from tests.families import (
    ANCHORED_TASKS,
    EXPERTS,
    FAMILIES,
    LANGUAGE_TASKS,
    TASKS,
    TEXTS,
    ZERO_SHOT_TASKS,
    explained,
)

CASES: dict[str, AbstractMethod] = {
    **{name: kind() for name, kind in METHODS.items()},
    "integrated_gradients": IntegratedGradients(n_steps=4),
    "gradient_shap": GradientShap(n_samples=4, stdevs=0.1),
    "lime": Lime(n_samples=24),
    "kernel_shap": KernelShap(n_samples=32),
    "sig_quadrature": SIG(n_steps=3),
    "rpi_paper": RPI(preset="paper", layers=(-2,), n_baselines=3, n_steps=4),
    "rpi_last": RPI(layers=-1, n_steps=2),
    "rpi_best": BestOf(
        RPI(baseline="gaussian", layers=(0, 1), n_baselines=2, n_steps=2), by="value_aopc_comprehensiveness"
    ),
    "context_cite": ContextCite(alpha=1e-9),  # so weak that it is a least-squares fit, which is linear
    "subset_regression": SubsetRegression(n_subsets=8),
    "subset_regression_rounds": SubsetRegression(n_subsets=8, rounds=3),
    "subset_regression_replace": SubsetRegression(n_subsets=8, operator="replace"),
    "mask_lrp_attn_lrp": MaskLRP(rules="attn_lrp"),
    "leave_one_out_log_odds": Contrast(LeaveOneOut(), score="log_odds"),
}
WITHOUT_TARGET = {"random", "attention_rollout", "mean_attention"}  # every target has the same scores
# With a reason, which the method's own tests check.
REFUSED = {(method, family) for method in ("mask_lrp", "deep_lift") for family in EXPERTS}
# All families as classifiers; of the other tasks one family that pools the first token, the last, and reads twice.
OTHER_TASKS = [(task, family) for task in TASKS if task != "classification" for family in ("bert", "llama", "t5")]
ZERO_SHOT = [("zero_shot", "bert"), ("zero_shot_multi_label", "t5")]
every_method = pytest.mark.parametrize("name", CASES)
every_family = pytest.mark.parametrize("family", FAMILIES)
some_families = pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
every_task = pytest.mark.parametrize(
    ("task", "family"),
    [
        *(("classification", family) for family in FAMILIES),
        *OTHER_TASKS,
        *((task, family) for task in LANGUAGE_TASKS for family in ("llama", "t5", "mixtral")),
        *ZERO_SHOT,
        *(("token-classification", "llama"), ("question-answering", "bert")),
    ],
)


@pytest.fixture(autouse=True)
def served(request: pytest.FixtureRequest) -> None:
    """Skips a method on a family it refuses."""
    case = getattr(getattr(request.node, "callspec", None), "params", {})
    if (case.get("name"), case.get("family")) in REFUSED:
        pytest.skip("refused")


TARGET = Target.of([0, 1, 2])
FOIL = Target.of([2, 0, 1])
CONTRAST = Target(TARGET.choices, FOIL.choices)
# Short, but for one that is longer than the attention windows of Mistral and ModernBERT.
SHORT = TEXTS[:3]


def model_of(task: str, family: str) -> ExplainedModel:
    return explained(family, **settings_of(task))


def settings_of(task: str) -> dict[str, Any]:
    return {**TASKS, **LANGUAGE_TASKS, **ZERO_SHOT_TASKS, **ANCHORED_TASKS}[task]


def scores_of(name: str, model: ExplainedModel, texts: Sequence[str | EncodedText], target: Target) -> list[Tensor]:
    """One tensor per text."""
    whole = [encoded(model, [text])[0] if isinstance(text, str) else text for text in texts]
    return list(CASES[name].attribute(model, whole, target).scores)


_KEPT: dict[Any, Tensor] = {}


def joined(
    name: str, model: ExplainedModel, target: Target, texts: Sequence[str | EncodedText] | None = None
) -> Tensor:
    """The scores of all texts, one after the other; those of `SHORT` are computed once and shared between tests."""
    if texts is not None:
        return torch.cat(scores_of(name, model, texts, target))
    key = (name, model, str(target.key))
    if key not in _KEPT:
        _KEPT[key] = torch.cat(scores_of(name, model, SHORT, target))
    return _KEPT[key]


def test_every_method_is_a_case() -> None:
    assert set(METHODS) <= set(CASES)
    assert all(METHODS[kind.name] is kind for kind in METHODS.values())


@every_method
@every_task
def test_scores_do_not_depend_on_padding_side_or_company(task: str, family: str, name: str) -> None:
    model, method = double(family, **settings_of(task)), CASES[name]
    target = model.predicted(encoded(model, SHORT))
    alone = torch.cat([scores_of(name, model, [text], target[i : i + 1])[0] for i, text in enumerate(SHORT)])
    assert relative_error(joined(name, model, target), alone) < 1e-5
    if isinstance(method, AbstractBatchMethod):
        batch = batch_of(model, SHORT, side="left")
        assert relative_error(torch.cat(batch.split(method.scores(model, batch, target))), alone) < 1e-5


@every_method
@every_task
def test_scores_are_finite_float32_exactly_0_elsewhere_and_the_model_is_bit_equal_after(
    task: str, family: str, name: str
) -> None:
    model, method = model_of(task, family), CASES[name]
    texts = encoded(model, [*SHORT, f"the {special_token(model)} film"])
    target = Target.of([0, 1, 2, 1] if task != "regression" else [0] * 4)
    target = model.predicted(texts) if task in ANCHORED_TASKS else target
    registered = set(AttentionInterface._global_mapping)
    with bit_equal_logits(model):
        results = [(torch.cat(scores_of(name, model, texts, target)), torch.cat([text.scorable for text in texts]))]
        if isinstance(method, AbstractBatchMethod):
            batch = model.collate(texts, side="left")
            results.append((method.scores(model, batch, target), batch.scorable))
    assert set(AttentionInterface._global_mapping) == registered
    assert _get_current_function_mode_stack() == []
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    for scores, scorable in results:
        assert scores.shape == scorable.shape
        assert scores.dtype == torch.float32
        assert not scores.requires_grad
        assert scores.isfinite().all()
        assert (scores[~scorable] == 0).all()
        assert (scores[scorable] != 0).any()


def special_token(model: ExplainedModel) -> str:
    """One to type in a text; a T5 takes one end token only."""
    words = model.tokenizer
    return words.pad_token if model.model.config.is_encoder_decoder else words.sep_token or words.eos_token


@pytest.mark.parametrize("name", [name for name in CASES if name != "random"])
@every_family
def test_the_explained_model_is_bit_equal_after_an_exception_inside(family: str, name: str) -> None:
    model = explained(family)
    texts, target = encoded(model, SHORT[:1]), Target.of([0])
    registered = set(AttentionInterface._global_mapping)

    def broken(*_: Any) -> None:
        raise RuntimeError("inside the model")

    head = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    with bit_equal_logits(model):
        handle = head.register_forward_hook(broken)
        with pytest.raises(RuntimeError, match="inside the model"):
            scores_of(name, model, texts, target)
        handle.remove()
    assert set(AttentionInterface._global_mapping) == registered
    assert _get_current_function_mode_stack() == []


# Half precision

PERTURBS = {  # these ask for predictions only, whatever the model is made of
    *("sig", "leave_one_out", "leave_one_out_log_odds", "occlusion", "lime", "kernel_shap", "context_cite"),
    *("subset_regression", "subset_regression_replace", "greedy_deletion", "greedy_keeping", "random"),
}


@cache
def in_half(family: str, dtype: torch.dtype) -> ExplainedModel:
    return fresh(family).to(dtype)


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, family) for name in CASES for family in (("bert", "llama", "t5") if name in PERTURBS else FAMILIES)],
)
def test_half_precision_gives_the_scores_of_float32_but_for_rounding(family: str, name: str) -> None:
    """Rounding of the logits is of the size of the scores in a few of these random models, so the bounds are wide."""
    model = explained(family)
    exact = joined(name, model, TARGET)
    for dtype, bound in ((torch.float16, 0.35), (torch.bfloat16, 1.5)):
        scores = torch.cat(scores_of(name, in_half(family, dtype), SHORT, TARGET))
        assert scores.dtype == torch.float32
        assert name == "rpi_best" or relative_error(scores, exact) < bound  # another candidate may be the best


# What is explained

# Scores of the others are linear in the objective: the same gradients, passes or subsets with another number.
NOT_LINEAR = {
    "gae",  # keeps the positive part of the gradient
    "rpi_best",  # a choice among candidates
    "greedy_deletion",  # ranks
    "greedy_keeping",
    "subset_regression",  # scales its prior by a factor that is never negative
    "subset_regression_rounds",
    "subset_regression_replace",
    "leave_one_out_log_odds",  # logarithms of probabilities
    "context_cite",
    "mask_lrp",  # a mask is found by optimisation
    "mask_lrp_attn_lrp",
}
# These have a score of their own, whatever the target's.
LOG_ODDS = {
    *("context_cite", "leave_one_out_log_odds"),
    *("subset_regression", "subset_regression_rounds", "subset_regression_replace"),
}
WITHOUT_SCORE = {*WITHOUT_TARGET, *LOG_ODDS, "greedy_deletion", "greedy_keeping"}
with_target = pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_TARGET])


@with_target
@pytest.mark.parametrize(
    ("task", "family"), [*(("classification", f) for f in FAMILIES), *(of for of in OTHER_TASKS if "multi" in of[0])]
)
def test_another_target_has_other_scores(task: str, family: str, name: str) -> None:
    model = model_of(task, family)
    assert relative_error(joined(name, model, TARGET), joined(name, model, FOIL)) > 1e-2


@every_method
@pytest.mark.parametrize(
    ("task", "family"),
    [
        *(("classification", family) for family in ("bert", "gpt2", "t5")),
        ("multi_label", "bert"),
        ("zero_shot", "bert"),
    ],
)
def test_a_foil_is_subtracted(task: str, family: str, name: str) -> None:
    model = double(family, **settings_of(task))
    contrast, plain = joined(name, model, CONTRAST), joined(name, model, TARGET)
    if name in WITHOUT_TARGET:
        assert torch.equal(contrast, plain)
    elif name in NOT_LINEAR:
        assert relative_error(contrast, plain) > 1e-2
    else:
        assert relative_error(contrast, plain - joined(name, model, FOIL)) < 1e-4


@every_method
@some_families
def test_log_probabilities_less_a_foil_s_are_logits_less_a_foil_s(family: str, name: str) -> None:
    model = double(family)
    logits, log_probabilities = (joined(name, model, replace(CONTRAST, score=s)) for s in ("logit", "log_prob"))
    assert relative_error(log_probabilities, logits) < 1e-5


@every_method
@some_families
def test_the_log_odds_of_one_of_two_labels_are_its_logit_less_the_other_s(family: str, name: str) -> None:
    model = double(family, labels=2)
    target = Target.of([0, 1, 1])
    log_odds = joined(name, model, replace(target, score="log_odds"))
    contrast = joined(name, model, Target(target.choices, 1 - target.choices))
    # These read log-odds whatever the score, and the other label's are the same with another sign.
    twice = 2 if name in LOG_ODDS else 1
    assert relative_error(twice * log_odds, contrast) < 1e-5


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_log_odds_of_a_label_by_itself_are_its_logit(family: str, name: str) -> None:
    model = double(family, **TASKS["multi_label"])
    logits, log_odds = (joined(name, model, replace(TARGET, score=score)) for score in ("logit", "log_odds"))
    assert relative_error(log_odds, logits) < 1e-5


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_SCORE])
@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_a_log_probability_has_other_scores_than_a_logit(task: str, name: str) -> None:
    model = double("bert", **TASKS[task])
    logits, log_probabilities = (joined(name, model, replace(TARGET, score=score)) for score in ("logit", "log_prob"))
    assert log_probabilities.isfinite().all()
    assert relative_error(log_probabilities, logits) > 1e-3


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_regression_has_no_log_probability(family: str, name: str) -> None:
    """Named by the score, whether a target or the method's setting asks for it."""
    model = model_of("regression", family)
    target = Target.of([0] * len(SHORT))
    with pytest.raises(ValueError, match=r"log_prob.* needs probabilities.*a regression"):
        Contrast(CASES[name], score="log_prob").attribute(model, encoded(model, SHORT), target)
    if name not in WITHOUT_SCORE:
        with pytest.raises(ValueError, match=r"log_prob.* needs probabilities.*a regression"):
            scores_of(name, model, SHORT, replace(target, score="log_prob"))


# Units

BY_UNITS = {
    *("leave_one_out", "leave_one_out_log_odds", "sig", "sig_quadrature", "occlusion", "lime", "kernel_shap"),
    *("context_cite", "subset_regression", "subset_regression_rounds", "subset_regression_replace"),
    *("greedy_deletion", "greedy_keeping"),
}


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_units_of_one_token_change_nothing(family: str, name: str) -> None:
    model = explained(family)
    texts = [replace(text, units=tuple(range(len(text)))) for text in encoded(model, SHORT)]
    assert torch.equal(joined(name, model, TARGET, texts), joined(name, model, TARGET))


@every_method
@some_families
def test_units_are_taken_away_whole_by_methods_that_perturb_and_left_alone_by_others(family: str, name: str) -> None:
    model = explained(family)
    texts = [replace(text, units=tuple(place // 3 for place in range(len(text)))) for text in encoded(model, SHORT)]
    grouped, plain = scores_of(name, model, texts, TARGET), joined(name, model, TARGET)
    if name in BY_UNITS:
        assert all(
            len(set(of[u].tolist())) == 1 for text, of in zip(texts, grouped, strict=True) for u in text.unit_masks
        )
        assert relative_error(torch.cat(grouped), plain) > 1e-2
    else:
        assert torch.equal(torch.cat(grouped), plain)


# Pairs


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_both_texts_of_a_pair_have_scores_in_a_batch_as_alone(family: str, name: str) -> None:
    model = double(family)
    texts = model.encode(["the film was great fun", "bad"], ["it was not dull at all", "this is good"])
    target = Target.of([0, 1])
    together = scores_of(name, model, texts, target)
    for i, (text, scores) in enumerate(zip(texts, together, strict=True)):
        alone = scores_of(name, model, [text], target[i : i + 1])[0]
        assert relative_error(scores, alone) < 1e-5
        segments = torch.tensor(text.segments)
        assert all(bool((scores[text.scorable & (segments == k)] != 0).any()) for k in (0, 1))


# The rest


@every_method
@some_families
def test_scores_come_out_the_same_under_no_grad_and_twice(family: str, name: str) -> None:
    model = explained(family)
    expected = joined(name, model, TARGET)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert torch.equal(joined(name, model, TARGET, SHORT), expected)


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_text_without_scorable_tokens_gets_zeros(family: str, name: str) -> None:
    model = explained(family)
    assert (scores_of(name, model, ["", "the film"], Target.of([0, 0]))[0] == 0).all()
    assert (scores_of(name, model, [""], Target.of([0]))[0] == 0).all()


@every_method
def test_the_cost_is_named_and_does_not_fall_with_length(name: str) -> None:
    costs = [CASES[name].forward_equivalents(n) for n in (5, 10)]
    assert 0 <= costs[0] <= costs[1]


@every_method
def test_settings_name_the_method_and_build_it_again(name: str) -> None:
    settings = CASES[name].settings
    assert settings["method"] == CASES[name].name in METHODS
    assert load_method(settings.pop("method"), **settings) == CASES[name]


def test_an_end_token_typed_into_a_t5_s_text_is_read_as_by_the_model() -> None:
    """T5ForSequenceClassification reads at the last end token, and wants as many in each text of a batch."""
    model = explained("t5")
    texts = ["the film was fun", "the </s> film"]
    with torch.no_grad():
        own = [model.model(**model.tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    answered = model.predict([text.tokens for text in model.encode(texts)]).logits[:, 0]
    torch.testing.assert_close(answered, torch.stack(own))


@every_family
def test_long_texts_are_scored_up_to_the_maximum(family: str) -> None:
    model = explained(family)
    with pytest.warns(UserWarning, match="tokens"):
        texts = encoded(model, [" ".join(["fun"] * 60)])
    for name in ("attn_lrp", "sig", "leave_one_out"):
        scores = scores_of(name, model, texts, model.predicted(texts))[0]
        assert scores.shape == (40,)
        assert scores.isfinite().all()
