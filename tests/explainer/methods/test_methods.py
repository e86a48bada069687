"""Properties that every method has on every family."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from transformers import AttentionInterface

from explainer.explained import ExplainedModel
from explainer.methods import (
    METHODS,
    RPI,
    SIG,
    AbstractMethod,
    GradientShap,
    IntegratedGradientsMethod,
    KernelShap,
    Lime,
    MaskLRP,
    SubsetRegression,
    method,
)
from tests.explainer.tools import batch_of, bit_equal_logits, double, encoded, predicted, relative_error
from tests.families import EXPERTS, FAMILIES, TEXTS, explained

CASES: dict[str, AbstractMethod] = {
    **{name: kind() for name, kind in METHODS.items()},
    "integrated_gradients": IntegratedGradientsMethod(n_steps=4),
    "gradient_shap": GradientShap(n_samples=4, stdevs=0.1),
    "lime": Lime(n_samples=24),
    "kernel_shap": KernelShap(n_samples=32),
    "sig_quadrature": SIG(n_steps=3),
    "rpi_paper": RPI(preset="paper", layers=(-2,), n_baselines=3, n_steps=4),
    "rpi_last": RPI(layers=-1, n_steps=2),
    "rpi_best": RPI(baseline="gaussian", layers=(0, 1), n_baselines=2, n_steps=2, select="best"),
    "subset_regression": SubsetRegression(n_subsets=8),
    "mask_lrp_attn_lrp": MaskLRP(rules="attn_lrp"),
}
TYPED = {"encoder": "the [SEP] film", "decoder": "the </s> film", "t5": "the <pad> film"}  # a special token in the text
WITHOUT_TARGET = {"random", "attention_rollout"}  # neither looks at the class: every target has the same scores
# With a reason, which the method's own tests check.
REFUSED = {(method, family) for method in ("mask_lrp", "deep_lift") for family in EXPERTS}
every_method = pytest.mark.parametrize("name", CASES)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def served(request: pytest.FixtureRequest) -> None:
    """Skips a method on a family it refuses."""
    case = getattr(getattr(request.node, "callspec", None), "params", {})
    if (case.get("name"), case.get("family")) in REFUSED:
        pytest.skip("refused")


def unpadded(name: str, model: ExplainedModel, texts: list[str], target: Tensor, side: str = "right") -> list[Tensor]:
    batch = batch_of(model, texts, side)
    return batch.split(CASES[name](model, batch, target))


def test_every_method_is_a_case() -> None:
    assert set(METHODS) <= set(CASES)
    assert all(METHODS[kind.name] is kind for kind in METHODS.values())


@every_method
@every_family
def test_scores_do_not_depend_on_padding_side_or_company(family: str, name: str) -> None:
    model = double(family)
    target = predicted(model, batch_of(model))
    alone = torch.cat([unpadded(name, model, [text], target[i : i + 1])[0] for i, text in enumerate(TEXTS)])
    for side in ("right", "left"):
        assert relative_error(torch.cat(unpadded(name, model, TEXTS, target, side)), alone) < 1e-5


@every_method
@every_family
def test_scores_are_finite_float32_without_graph_and_exactly_0_elsewhere(family: str, name: str) -> None:
    model = explained(family)
    for side in ("right", "left"):
        batch = batch_of(model, [*TEXTS, TYPED[FAMILIES[family][0]]], side)
        scores = CASES[name](model, batch, predicted(model, batch))
        assert scores.shape == batch.input_ids.shape
        assert scores.dtype == torch.float32
        assert not scores.requires_grad
        assert scores.isfinite().all()
        assert (scores[~batch.scorable] == 0).all()
        assert (scores[batch.scorable] != 0).any()


@every_method
@every_family
def test_the_explained_model_is_bit_equal_after_use(family: str, name: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    registered = set(AttentionInterface._global_mapping)
    with bit_equal_logits(model):
        CASES[name](model, batch, predicted(model, batch))
    assert set(AttentionInterface._global_mapping) == registered
    assert _get_current_function_mode_stack() == []
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in CASES if name != "random"])
@every_family
def test_the_explained_model_is_bit_equal_after_an_exception_inside(family: str, name: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    registered = set(AttentionInterface._global_mapping)

    def broken(*_: Any) -> None:
        raise RuntimeError("inside the model")

    head = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    with bit_equal_logits(model):
        handle = head.register_forward_hook(broken)
        with pytest.raises(RuntimeError, match="inside the model"):
            CASES[name](model, batch, target)
        handle.remove()
    assert set(AttentionInterface._global_mapping) == registered
    assert _get_current_function_mode_stack() == []


@pytest.mark.parametrize("name", [name for name in CASES if name not in WITHOUT_TARGET])
@every_family
def test_another_target_has_other_scores(family: str, name: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    first, second = (CASES[name](model, batch, torch.full((len(TEXTS),), c)) for c in (0, 1))
    assert relative_error(first, second) > 1e-2


@every_method
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_scores_come_out_the_same_under_no_grad_and_twice(family: str, name: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    expected = CASES[name](model, batch, target)
    with torch.no_grad():
        assert torch.equal(CASES[name](model, batch, target), expected)


@every_method
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_text_without_scorable_tokens_gets_zeros(family: str, name: str) -> None:
    model = explained(family)
    batch = batch_of(model, ["", "the film"])
    scores = CASES[name](model, batch, torch.zeros(2, dtype=torch.int64))
    assert (scores[0] == 0).all()
    alone = CASES[name](model, batch_of(model, [""]), torch.zeros(1, dtype=torch.int64))
    assert (alone == 0).all()


@every_method
def test_the_cost_is_named_and_does_not_fall_with_length(name: str) -> None:
    costs = [CASES[name].forward_equivalents(n) for n in (5, 10)]
    assert 0 <= costs[0] <= costs[1]


@every_method
def test_settings_name_the_method_and_build_it_again(name: str) -> None:
    settings = CASES[name].settings
    assert settings.pop("method") in METHODS
    assert method(CASES[name].name, **settings) == CASES[name]


def test_an_unknown_method_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"`method` must be one of random, .*sig.*, got 'nothing'"):
        method("nothing")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`settings` of method 'sig': .*steps"):
        method("sig", steps=3)


def test_an_end_token_typed_into_a_t5_s_text_is_refused_by_its_index() -> None:
    """T5ForSequenceClassification pools at the end token and wants as many in each row of a batch."""
    with pytest.raises(ValueError, match=r"`texts\[1\]` contains the end token"):
        explained("t5").encode(["the film was fun", "the </s> film"])


@every_family
def test_long_texts_are_scored_up_to_the_maximum(family: str) -> None:
    model = explained(family)
    with pytest.warns(UserWarning, match="tokens"):
        texts = encoded(model, [" ".join(["fun"] * 60)])
    batch = model.collate(texts)
    for name in ("attn_lrp", "sig", "leave_one_out"):
        scores = CASES[name](model, batch, predicted(model, batch))
        assert scores.shape == (1, 40)
        assert scores.isfinite().all()
