"""The contract: settings, masks, texts in batches and in order, several targets, and the helpers of methods."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from explainer.explained import PREDICTED, RUNNER_UP, EncodedText, ExplainedModel, Target, TokenBatch, Tokens
from explainer.methods import SIG, AbstractMethod, AttnLRP, Random
from explainer.methods.base import (
    AbstractBatchMethod,
    AbstractTextMethod,
    from_units,
    gradient_times_input,
    one_at_a_time,
    scorable_only,
)
from explainer.methods.loading import load_method
from explainer.rendering import progress
from explainer.typing import RaggedScores, Scores, TokenMask
from tests.explainer.tools import batch_of, double, encoded, fresh
from tests.families import FAMILIES, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])


@dataclass(frozen=True)
class BatchSpy(AbstractBatchMethod):
    """Scores every token by the target it was asked for, and notes the batches."""

    name: ClassVar[str] = "batch_spy"
    note: Callable[[tuple[int, ...]], None] = print

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        self.note(tuple(batch.input_ids.shape))
        return target.classes[:, None].expand(batch.input_ids.shape).float()

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


@dataclass(frozen=True)
class TextSpy(AbstractTextMethod):
    """The same on texts as they are, in float64 and with a graph."""

    name: ClassVar[str] = "text_spy"
    note: Callable[[tuple[int, ...]], None] = print

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        self.note((len(texts), max(len(text) for text in texts)))
        return [
            torch.full((len(text),), float(c), dtype=torch.float64, requires_grad=True)
            for text, c in zip(texts, target.classes, strict=True)
        ]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


def test_settings_hold_the_name_and_every_field() -> None:
    assert SIG(n_steps=4).settings == {"method": "sig", "n_steps": 4, "internal_batch_size": None, "baseline": None}


def test_methods_with_equal_settings_are_equal_and_cannot_change() -> None:
    assert Random(seed=1) == Random(seed=1) != Random(seed=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Random().seed = 3  # type: ignore[misc]


def test_scorable_only_zeroes_the_rest_even_where_it_is_nan() -> None:
    ids = torch.tensor([[1, 2, 3]])
    batch = TokenBatch(ids, torch.tensor([[1, 1, 0]]), torch.tensor([[False, True, False]]))
    values = torch.tensor([[torch.nan, 2.0, torch.inf]], dtype=torch.float64, requires_grad=True)
    scores = scorable_only(values, batch)
    assert scores.tolist() == [[0.0, 2.0, 0.0]]
    assert scores.dtype == torch.float32
    assert not scores.requires_grad


# Texts


@pytest.mark.parametrize("method", [SIG(), AttnLRP()], ids=lambda method: method.name)
@pytest.mark.parametrize("budget", [1, 50, 4096])
def test_scores_are_those_of_each_text_alone_in_order(method: AbstractMethod, budget: int) -> None:
    model = fresh("llama")
    model.double().batch_tokens = budget
    attributions = method.attribute(model, encoded(model), TARGET)
    assert attributions.target is TARGET
    for i, (text, scores) in enumerate(zip(TEXTS, attributions.scores, strict=True)):
        alone = method.attribute(double("llama"), encoded(model, [text]), TARGET[i : i + 1]).scores[0]
        assert torch.allclose(scores, alone, atol=1e-6, rtol=1e-4)
        assert scores.device.type == "cpu"


@pytest.mark.parametrize("kind", [BatchSpy, TextSpy])
def test_each_text_gets_its_own_target_under_a_budget(kind: type[BatchSpy] | type[TextSpy]) -> None:
    model, shapes = fresh("bert"), []
    model.batch_tokens = 30
    texts = encoded(model)
    scores = kind(note=shapes.append).attribute(model, texts, TARGET).scores
    for text, of_text, target in zip(texts, scores, TARGET.classes.tolist(), strict=True):
        assert of_text[text.scorable].tolist() == [target] * text.n_scorable
    assert len(shapes) > 1
    assert all(rows == 1 or rows * length <= 30 for rows, length in shapes)


def test_scores_of_texts_are_float32_without_graph_and_0_where_not_scorable() -> None:
    model = explained("bert")
    attributions = TextSpy(note=len).attribute(model, encoded(model), TARGET)
    for text, scores in zip(attributions.texts, attributions.scores, strict=True):
        assert scores.dtype == torch.float32
        assert not scores.requires_grad
        assert (scores[~text.scorable] == 0).all()


def test_no_texts_have_no_scores() -> None:
    for method in (SIG(), AttnLRP()):
        assert list(method.attribute(explained("bert"), [], Target.of([])).scores) == []
        readout, (attributions,) = method.explain(explained("bert"), [], [Target.of([])])
        assert len(readout) == len(attributions) == 0


def test_progress_is_shown_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    model = explained("bert")
    for method in (Random(), AttnLRP()):
        method.attribute(model, encoded(model), TARGET)
        assert capsys.readouterr().err == ""
        method.attribute(model, encoded(model), TARGET, progress="working")
        assert "working" in capsys.readouterr().err


@pytest.mark.parametrize("method", [SIG(), AttnLRP()], ids=lambda method: method.name)
@pytest.mark.parametrize("budget", [30, 4096])
def test_explain_gives_the_answers_and_each_target_s_scores(method: AbstractMethod, budget: int) -> None:
    """Stand-ins for the prediction and the runner-up are each text's own."""
    model = fresh("bert")
    model.double().batch_tokens = budget
    texts = encoded(model)
    logits = torch.cat([model.model(input_ids=text.tokens.input_ids[None]).logits for text in texts])
    order = logits.argsort(dim=1, descending=True)
    asked = [Target.of([PREDICTED] * 4), TARGET, Target.of([PREDICTED] * 4, [RUNNER_UP] * 4, "log_prob")]
    wanted = [Target.of(order[:, 0]), TARGET, Target.of(order[:, 0], order[:, 1], "log_prob")]
    readout, attributions = method.explain(model, texts, asked)
    assert torch.allclose(readout.logits[:, 0], logits, atol=1e-6)
    for ours, target in zip(attributions, wanted, strict=True):
        assert ours.target.key == target.key
        expected = method.attribute(model, texts, target)
        assert torch.allclose(torch.cat(list(ours.scores)), torch.cat(list(expected.scores)), atol=1e-6, rtol=1e-4)


# Helpers


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_times_input_is_autograd_s_of_the_embedding_table_s_rows(family: str) -> None:
    """The gradient at a token's own position, got here by perturbing the output of the embedding by a zero."""
    model = explained(family)
    batch = batch_of(model)
    nudge = torch.zeros(*batch.input_ids.shape, model.embedding.weight.shape[1], requires_grad=True)
    logits = model(batch, edit=lambda e: e + nudge).logits[:, 0]
    logits.gather(1, TARGET.choices).sum().backward()
    assert nudge.grad is not None
    expected = (nudge.grad * model.embedding(batch.input_ids)).sum(dim=-1).masked_fill(~batch.scorable, 0)
    assert torch.allclose(gradient_times_input(model, batch, TARGET), expected, atol=1e-6, rtol=1e-4)


def test_one_at_a_time_gives_each_unit_the_fall_of_its_own_text() -> None:
    model = double("bert")
    texts = encoded(model)

    def unchanged(tokens: Tokens, unit: TokenMask) -> Tokens:
        return tokens

    def halved(tokens: Tokens, unit: TokenMask) -> Tokens:
        return tokens.select(torch.arange(len(tokens)) < len(tokens) // 2)

    assert all((scores == 0).all() for scores in one_at_a_time(model, texts, TARGET, unchanged))
    target = Target.of([0, 1, 2, 0], [1, 2, 0, 1])
    for text, scores, a, b in zip(
        texts, one_at_a_time(model, texts, target, halved), target.classes, target.foil[:, 0], strict=True
    ):
        whole, half = (
            model.model(input_ids=ids[None]).logits[0].double()
            for ids in (text.tokens.input_ids, text.tokens.input_ids[: len(text) // 2])
        )
        fall = (whole[a] - whole[b]) - (half[a] - half[b])
        assert torch.allclose(scores[text.scorable].double(), fall, atol=1e-6)
        assert (scores[~text.scorable] == 0).all()


def test_a_unit_s_score_is_shared_among_its_tokens() -> None:
    text = encoded(explained("bert"), ["the film was great fun"])[0]
    units = dataclasses.replace(text, units=(0, 1, 1, 2, 2, 2, 3)).unit_masks
    scores = from_units(text, units, torch.tensor([3.0, 6.0], dtype=torch.float64))
    assert scores.tolist() == [0.0, 1.5, 1.5, 2.0, 2.0, 2.0, 0.0]
    assert scores.dtype == torch.float64
    assert from_units(text, [], torch.zeros(0)).tolist() == [0.0] * 7


@pytest.mark.parametrize("method", [AttnLRP(), SIG()], ids=lambda method: method.name)
def test_a_text_whose_logits_are_no_numbers_is_named(method: AbstractMethod) -> None:
    model = fresh("bert")
    texts = encoded(model, ["bad", "the dull film", "fun"])
    with torch.no_grad():
        model.embedding.weight[model.tokenizer.convert_tokens_to_ids("dull")] = torch.nan
    with pytest.raises(ValueError, match=r"logits of `(texts|sequences)\[1\]` \('.*the dull film.*'\) are \[nan"):
        method.explain(model, texts, [Target.of([PREDICTED] * 3)])
    with pytest.raises(ValueError, match="the dull film"):
        method.attribute(model, texts, Target.of([0, 0, 0]))


# Memory


class Tight:
    """Memory for passes of so many tokens, and no more."""

    def __init__(self, model: ExplainedModel, tokens: int) -> None:
        self.tokens, self.tried = tokens, []  # type: ignore[var-annotated]
        model.embedding.register_forward_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        size = output.shape[0] * output.shape[1]
        self.tried.append(size)
        if size > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    "name", ["attn_lrp", "attention_rollout", "leave_one_out", "context_cite", "integrated_gradients"]
)
def test_when_memory_runs_out_smaller_batches_give_the_same_scores(name: str) -> None:
    model = fresh("bert")
    texts, method = encoded(model), load_method(name)
    expected = method.explain(model, texts, [TARGET])
    tight, budget = Tight(model, max(len(text) for text in texts)), model.batch_tokens
    for readout, (scores,) in (
        method.explain(model, texts, [TARGET]),
        (expected[0], [method.attribute(model, texts, TARGET)]),
    ):
        assert torch.allclose(readout.logits, expected[0].logits, atol=1e-5)
        for one, other in zip(scores.scores, expected[1][0].scores, strict=True):
            assert torch.allclose(one, other, atol=1e-5, rtol=1e-3)
    assert max(tight.tried) > tight.tokens
    assert model.batch_tokens == budget


@pytest.mark.parametrize("name", ["attn_lrp", "leave_one_out", "integrated_gradients"])
def test_a_text_that_does_not_fit_by_itself_is_an_error_with_its_length(name: str) -> None:
    model = fresh("bert")
    texts = encoded(model)
    longest = max(len(text) for text in texts)
    Tight(model, longest - 1)
    with pytest.raises(
        ValueError, match=rf"of {longest} tokens does not fit into memory.*`batch_tokens`.*checkpointing"
    ):
        load_method(name).attribute(model, texts, TARGET)


def test_attn_lrp_takes_checkpointing_for_a_text_that_does_not_fit_without() -> None:
    model = fresh("llama")
    texts = encoded(model, TEXTS[:1])
    expected = AttnLRP().attribute(model, texts, TARGET[:1]).scores[0]
    calls: list[bool] = []

    def graph_of_a_layer(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        calls.append("forward" in vars(module))  # checkpointed
        if not calls[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.layers[-1].register_forward_hook(graph_of_a_layer)
    assert torch.allclose(AttnLRP().attribute(model, texts, TARGET[:1]).scores[0], expected, atol=1e-6, rtol=1e-4)
    assert calls == [False, True]
