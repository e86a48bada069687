"""RPI against a slow float64 re-derivation, the contract of its samplers, its candidates, and refused settings."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target, edit_attention_weights
from explainer.methods import RPI, AbstractBaseline
from explainer.methods.rpi.baselines import AttentionState, record_attention
from tests.explainer.tools import batch_of, deberta, double, encoded, logits_of, predicted, relative_error
from tests.families import TASKS, TEXTS, explained

TEXT = TEXTS[1]


@dataclass(frozen=True)
class Shifted(AbstractBaseline):
    """Rows cyclically shifted, by another distance per sample: a sampler that a user wrote."""

    name: ClassVar[str] = "shifted"

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Tensor:
        shifted = state.attention.roll(1 + sample + seed, dims=-1)
        return torch.where(state.valid[:, :, None], shifted, state.attention)


@dataclass(frozen=True)
class Unmoved(AbstractBaseline):
    name: ClassVar[str] = "unmoved"
    deterministic: ClassVar[bool] = True

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Tensor:
        return state.attention


# BERT written out for one text, with attention supplied in one layer


def attend(block: nn.Module, x: Tensor, supplied: Tensor | None) -> tuple[Tensor, Tensor]:
    inner: Any = block.attention.self
    q, k, v = (part(x).view(len(x), 2, 8).transpose(0, 1) for part in (inner.query, inner.key, inner.value))
    weights = torch.exp(q @ k.transpose(1, 2) / 8**0.5)
    weights = weights / weights.sum(dim=-1, keepdim=True) if supplied is None else supplied
    mixed = torch.stack([weights[h] @ v[h] for h in range(2)], dim=1).reshape(len(x), 16)
    after: Any = block.attention.output
    return after.LayerNorm(after.dense(mixed) + x), weights


def plain_bert(model: ExplainedModel, ids: Tensor, layer: int, supplied: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logits of one text, and the attention of `layer`."""
    bert: Any = model.model.bert
    embeddings = bert.embeddings
    x = embeddings.word_embeddings.weight[ids] + embeddings.position_embeddings.weight[: len(ids)]
    x = embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0])
    attention: list[Tensor] = []
    for i, block in enumerate(bert.encoder.layer):
        x, weights = attend(block, x, supplied if i == layer else None)
        x = block.output.LayerNorm(block.output.dense(nn.functional.gelu(block.intermediate.dense(x))) + x)
        attention.append(weights)
    head: Any = model.model.classifier
    return head(torch.tanh(bert.pooler.dense(x[0]))), attention[layer]


def slow_rpi(model: ExplainedModel, ids: Tensor, target: int, layer: int, rows: str, formula: str, n: int) -> Tensor:
    """The definition, point by point, for the second sample of `Shifted`."""
    end = plain_bert(model, ids, layer, None)[1].detach()
    start = end.roll(2, dims=-1)
    total = torch.zeros_like(end)
    for j in range(n):
        point = (start + j / (n - 1) * (end - start)).requires_grad_()
        plain_bert(model, ids, layer, point)[0][target].backward()
        assert point.grad is not None
        total += point.grad * (point.detach() if formula == "paper" else 1.0)
    total = total / n * (end - start if formula == "difference" else end)
    return (total[:, :1] if rows == "pooled" else total).sum(dim=1).mean(dim=0)


@pytest.mark.parametrize("formula", ["paper", "gradient", "difference"])
@pytest.mark.parametrize("rows", ["pooled", "all"])
@pytest.mark.parametrize("layer", [0, 1])
def test_candidates_are_the_definition_s(layer: int, rows: str, formula: str) -> None:
    model = double("bert")
    batch = batch_of(model, [TEXTS[0], TEXT])  # the second is not padded
    ids = batch.input_ids[1]
    assert relative_error(plain_bert(model, ids, layer, None)[0], logits_of(model, batch)[1]) < 1e-12
    rpi = RPI(
        layers=(layer,), rows=rows, formula=formula, baseline=Shifted(), n_baselines=2, quadrature="mean", n_steps=5
    )
    for target in (0, 2):
        candidates = rpi.batch_candidates(model, batch, Target.of([1, target]))
        expected = slow_rpi(model, ids, target, layer, rows, formula, 5) * batch.scorable[1]
        assert relative_error(candidates[1, 1].double(), expected) < 1e-6  # scores are float32


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_path_that_does_not_move_gives_gradient_times_attention(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    attention: list[Tensor] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        if module not in set(model.layers[-1].modules()):
            return weights
        attention.append(weights.detach().requires_grad_())
        return attention[0]

    with edit_attention_weights(model.model, read):
        model.objective(batch, target).sum().backward()
    expected = (attention[0] * attention[0].grad).mean(dim=1).sum(dim=1)
    rpi = RPI(baseline=Unmoved(), formula="gradient", rows="all", layers=(-1,), n_steps=3)
    scores = rpi.scores(model, batch, target)
    assert relative_error(scores[batch.scorable].double(), expected[batch.scorable]) < 1e-6


@pytest.mark.parametrize("foil", [None, 0])
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_differences_along_the_path_sum_to_the_objective_s_change(family: str, foil: int | None) -> None:
    """The gradient theorem for one joint path over two layers: the sum over all tokens and heads."""
    model = double(family)
    batch = batch_of(model, [TEXT])
    target = Target.of([1], None if foil is None else [foil])
    rpi = RPI(layers=(0, 1), rows="all", formula="difference", baseline=Shifted(), n_steps=24)
    starts: list[Tensor] = []

    def shifted(module: nn.Module, weights: Tensor) -> Tensor:
        rolled = attention[len(starts)].roll(1, dims=-1)
        starts.append(torch.where((weights != 0).any(dim=1, keepdim=True), rolled, weights))
        return starts[-1]

    attention: list[Tensor] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        attention.append(weights)
        return weights

    with edit_attention_weights(model.model, read):
        end = model.objective(batch, target)
    with edit_attention_weights(model.model, shifted):
        start = model.objective(batch, target)
    everything = replace(batch, scorable=batch.attention_mask.bool())
    total = rpi.scores(model, everything, target).sum() * model.model.config.num_attention_heads
    assert relative_error(total.double(), end - start) < 1e-4


def test_a_list_or_a_number_of_layers_and_their_sum() -> None:
    assert RPI(layers=[-2, -1]) == RPI(layers=(-2, -1))
    assert RPI(layers=-1) == RPI(layers=(-1,))
    assert RPI(layers=-1) != RPI()
    model = double("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    both, single = (
        RPI(layers=layers, rows="all", formula="gradient", baseline=Unmoved()).scores(model, batch, target)
        for layers in ((0, 1), (1,))
    )
    assert relative_error(both, single) > 1e-3
    # From either end, in any order, the same.
    every = RPI(layers="all").scores(model, batch, target)
    assert all(torch.equal(RPI(layers=layers).scores(model, batch, target), every) for layers in ((-1, 0), (0, 1)))


def test_the_sampler_gets_what_a_learned_one_needs() -> None:
    seen: list[tuple[AttentionState, int, int]] = []

    @dataclass(frozen=True)
    class Spy(AbstractBaseline):
        name: ClassVar[str] = "spy"

        def __call__(self, state: AttentionState, sample: int, seed: int) -> Tensor:
            seen.append((state, sample, seed))
            state.explained(state.batch)  # it may run the model
            return state.attention

    model = explained("gpt2")
    batch = batch_of(model, side="left")
    RPI(baseline=Spy(), n_baselines=3, layers=(-1,), seed=5).scores(model, batch, predicted(model, batch))
    assert [call[1:] for call in seen] == [(0, 5), (1, 5), (2, 5)]
    state = seen[0][0]
    texts, seq = batch.input_ids.shape
    assert state.layers == (1,)
    assert state.batch.attention_mask[:, 0].all()
    assert state.attention.shape == (1, texts, 2, seq, seq)
    assert state.hidden.shape == (texts, seq, 16)
    real = state.batch.attention_mask.bool()
    causal = torch.ones(seq, seq).tril().bool()
    assert torch.equal(state.valid[0], real[:, :, None] & real[:, None, :] & causal)


@pytest.mark.parametrize("batch_tokens", [1, 100, 300, 100_000])
def test_the_token_budget_changes_no_score(batch_tokens: int) -> None:
    model = double("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    rpi = RPI(layers=(-1,), baseline="gaussian", n_baselines=3, n_steps=3)
    expected = rpi.batch_candidates(model, batch, target)
    widths: list[int] = []
    handle = model.layers[-1].register_forward_hook(lambda _, inputs, __: widths.append(inputs[0][..., 0].numel()))
    before, model.batch_tokens = model.batch_tokens, batch_tokens
    try:
        candidates = rpi.batch_candidates(model, batch, target)
    finally:
        model.batch_tokens = before
        handle.remove()
    assert relative_error(candidates, expected) < 1e-6
    # The first pass records the batch itself; after it, every pass keeps to the budget or is one row.
    assert max(widths[1:]) <= max(batch_tokens, batch.input_ids.shape[1])
    assert sum(widths[1:]) == 3 * 3 * batch.input_ids.numel()


SAMPLED: dict[str, Any] = {"layers": (-1,), "baseline": "gaussian", "n_baselines": 4, "n_steps": 2}


def test_mean_and_spread_are_of_the_candidates() -> None:
    model = explained("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    rpi = RPI(**SAMPLED)
    candidates = rpi.batch_candidates(model, batch, target)
    assert candidates.shape == (4, *batch.input_ids.shape)
    assert torch.equal(rpi.scores(model, batch, target), candidates.mean(dim=0))
    assert torch.allclose(rpi.spread(model, batch, target), candidates.std(dim=0, correction=0))
    assert (rpi.spread(model, batch, target)[batch.scorable] > 0).all()


@pytest.mark.parametrize("batch_tokens", [30, 100_000])
def test_every_text_gets_its_own_candidates_and_their_mean_is_the_score(batch_tokens: int) -> None:
    model = double("llama")
    texts = encoded(model)
    target = Target.of([0, 1, 2, 1], [1, 0, 0, 2])
    rpi = RPI(**SAMPLED)
    before, model.batch_tokens = model.batch_tokens, batch_tokens
    try:
        candidates = rpi.candidates(model, texts, target)
        scores = rpi.attribute(model, texts, target).scores
    finally:
        model.batch_tokens = before
    assert rpi.n_candidates == 4
    for i, (text, each, score) in enumerate(zip(texts, candidates, scores, strict=True)):
        assert each.shape == (4, len(text))
        assert torch.allclose(each.mean(dim=0), score, rtol=1e-6)
        assert (each[:, ~text.scorable] == 0).all()
        alone = rpi.batch_candidates(model, model.collate([text]), target[i : i + 1])
        assert relative_error(each, alone[:, 0]) < 1e-5
    assert rpi.candidates(model, [], Target.of([])) == []


@pytest.mark.parametrize(
    ("task", "other_type"),
    [("multi_label", "single_label_classification"), ("regression", "multi_label_classification")],
)
def test_the_link_of_a_task_changes_no_score_of_its_logit(task: str, other_type: str) -> None:
    model = explained("bert", **TASKS[task])
    batch = batch_of(model)
    target = Target.of([0] * len(TEXTS))
    scores = RPI().scores(model, batch, target)
    other = explained("bert", labels=len(model.labels), problem_type=other_type)
    assert other.task.link != model.task.link
    assert torch.equal(scores, RPI().scores(other, batch, target))
    assert (scores[batch.scorable] != 0).any()


def test_the_passes_are_counted() -> None:
    assert RPI(preset="paper").forward_equivalents(20) == 1 + 3 * 24 * 31
    assert RPI().forward_equivalents(20) == 1 + 1 + 3 * 2


def test_the_paper_s_preset_and_settings_that_replace_its_values() -> None:
    paper = RPI(preset="paper", n_steps=7)
    assert (paper.layers, paper.rows, paper.formula, paper.baseline) == ((-3,), "pooled", "paper", "gaussian")
    assert (paper.n_baselines, paper.n_steps, paper.quadrature) == (24, 7, "mean")
    assert RPI(**{k: v for k, v in paper.settings.items() if k != "method"}) == paper
    assert RPI(baseline=Shifted()).settings["baseline"] == "shifted"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "papr"}, "`preset` must be one of default, paper, got 'papr'"),
        ({"rows": "first"}, "`rows` must be one of pooled, all, got 'first'"),
        ({"baseline": "noise"}, "`baseline` must be one of gaussian, all_reference, zero, .*got 'noise'"),
        ({"layers": []}, "must be at least 1"),
        ({"layers": "last"}, "`layers` must be 'all', a number or a list of numbers, got 'last'"),
        ({"n_steps": 0}, "must be at least 1"),
        ({"baseline": "all_reference", "n_baselines": 2}, "`n_baselines` must be 1 .* got 2"),
    ],
    ids=["preset", "rows", "baseline", "no_layer", "layers", "n_steps", "n_baselines"],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RPI(**settings)


def test_a_layer_that_is_not_there_and_a_model_off_the_interface_are_refused() -> None:
    model = explained("bert")
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r"`layer` must lie between -2 and 1 .*got -3"):
        RPI(preset="paper").scores(model, batch, predicted(model, batch))
    model = deberta()
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r"not on transformers' attention interface.*`sig`"):
        RPI().scores(model, batch, predicted(model, batch))


@pytest.mark.parametrize("formula", ["paper", "gradient", "difference"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_scores_in_the_graph_of_their_start_are_the_same_scores(family: str, formula: str) -> None:
    """And their gradient is that of finite differences, second derivatives of the model included."""
    model = double(family)
    batch = batch_of(model, [TEXT])
    target = predicted(model, batch)
    rpi = RPI(layers=(0, 1), rows="all", formula=formula, baseline=Shifted(), n_steps=2)
    with record_attention(model, batch, (0, 1)) as (state, upper, edit):
        start = Shifted()(state, 0, 0)

        def weighed(start: Tensor) -> Tensor:
            scores = rpi.scores_from(upper, edit, state, start, target)
            return (scores * torch.arange(scores.shape[1])).sum()

        in_graph = rpi.scores_from(upper, edit, state, start.clone().requires_grad_(), target)
        leaf = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(weighed(leaf), leaf)
        torch.manual_seed(0)
        step = torch.randn(start.shape, dtype=start.dtype) * state.valid[:, :, None] * 1e-3
        change = weighed(start + step) - weighed(start - step)
    expected = rpi.batch_candidates(model, batch, target)[0]
    assert relative_error(in_graph.detach()[batch.scorable].float(), expected[batch.scorable]) < 1e-6
    assert relative_error((gradient * step).sum() * 2, change.detach()) < 1e-3
