"""The explained model: frozen, padding-safe, predictions in order under any token budget, targets by any name."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from tests.explainer.tools import batch_of, bit_equal_logits, double, fresh, logits_of, predictions, relative_error
from tests.families import FAMILIES, TEXTS, TOKENIZERS, explained

LABELS = ["negative", "neutral", "Positive"]


def named_labels() -> ExplainedModel:
    model = fresh("bert")
    model.model.config.id2label = dict(enumerate(LABELS))
    return ExplainedModel(model.model, model.tokenizer)


def rows_of(model: ExplainedModel, texts: list[str] = TEXTS) -> list[Tokens]:
    return [text.tokens for text in model.encode(texts)]


def forward_shapes(model: ExplainedModel, rows: list[Tokens]) -> list[tuple[int, ...]]:
    """The (rows, length) of every forward pass that a prediction takes."""
    shapes: list[tuple[int, ...]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    handle = model.model.register_forward_pre_hook(note, with_kwargs=True)
    model.predict(rows)
    handle.remove()
    return shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_frozen_and_stays_in_eval_mode(family: str) -> None:
    model = fresh(family).train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_do_not_depend_on_padding_side_or_company(family: str) -> None:
    model = double(family)
    alone = torch.cat([logits_of(model, batch_of(model, [text])) for text in TEXTS])
    for side in ("left", "right"):
        assert relative_error(logits_of(model, batch_of(model, side=side)), alone) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model_itself_on_the_tokenizer_s_output(family: str) -> None:
    model = explained(family)
    for text in TEXTS:
        inputs = model.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            expected = model.model(**inputs).logits
        assert torch.allclose(logits_of(model, batch_of(model, [text])), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_predict_keeps_the_order_of_its_rows(family: str) -> None:
    model = double(family)
    rows = rows_of(model)
    expected = torch.cat([predictions(model, [row]) for row in rows])
    assert len({tuple(row) for row in expected.tolist()}) == len(rows)
    assert relative_error(predictions(model, rows), expected) < 1e-6
    assert relative_error(predictions(model, rows[::-1]), expected.flip(0)) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_predict_does_not_depend_on_the_token_budget(family: str) -> None:
    model = copy.copy(double(family))
    rows = rows_of(model)
    expected = predictions(model, rows)
    for budget in (1, 30, 50):
        model.batch_tokens = budget
        assert relative_error(predictions(model, rows), expected) < 1e-6


def test_predict_computes_equal_rows_once() -> None:
    model = explained("bert")
    rows = rows_of(model)
    shapes = forward_shapes(model, [*rows, *rows, rows[0]])
    assert sum(shape[0] for shape in shapes) == len(rows)
    logits = predictions(model, [*rows, *rows])
    assert torch.equal(logits[: len(rows)], logits[len(rows) :])


def test_predict_tells_rows_of_other_token_types_apart() -> None:
    model = fresh("bert")
    with torch.no_grad():
        model.backbone.embeddings.token_type_embeddings.weight[1].normal_(std=5)
    row = rows_of(model)[0]
    other = Tokens(row.input_ids, torch.ones_like(row.input_ids))
    logits = predictions(model, [row, other])
    assert not torch.allclose(logits[0], logits[1], atol=1e-6)


def test_predict_stays_under_the_budget() -> None:
    model = fresh("bert")
    model.batch_tokens = 30
    shapes = forward_shapes(model, rows_of(model))
    assert len(shapes) > 1
    assert all(count * length <= 30 for count, length in shapes)


def test_predict_of_no_rows_is_empty() -> None:
    assert predictions(explained("bert"), []).shape == (0, 3)


def test_predict_builds_no_graph_and_is_on_the_cpu() -> None:
    logits = predictions(explained("bert"), rows_of(explained("bert")))
    assert not logits.requires_grad
    assert logits.device.type == "cpu"


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_without_tokens_is_refused(budget: int) -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match="`batch_tokens` must be a positive"):
        ExplainedModel(model.model, model.tokenizer, batch_tokens=budget)


# Embedding edits


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_identity_edit_is_bit_equal_and_sees_the_batch_s_own_columns(family: str, side: str) -> None:
    model = explained(family)
    batch = batch_of(model, side=side)
    found: list[Tensor] = []
    logits = logits_of(model, batch, edit=lambda embeddings: found.append(embeddings) or embeddings)
    assert torch.equal(logits, logits_of(model, batch))
    assert len(found) == 1
    assert torch.equal(found[0], model.embedding(batch.input_ids))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_to_another_token_s_embedding_equals_replacing_the_id(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    place = torch.zeros_like(batch.scorable)
    for i, row in enumerate(batch.scorable):
        place[i, row.nonzero()[0]] = True
    replaced = TokenBatch(
        batch.input_ids.masked_fill(place, model.baseline_token_id),
        batch.attention_mask,
        batch.scorable,
        batch.token_type_ids,
    )
    edited = logits_of(model, batch, edit=lambda e: torch.where(place[..., None], model.baseline_embedding(), e))
    assert relative_error(edited, logits_of(model, replaced)) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_in_an_edit_restores_the_model(family: str) -> None:
    model = explained(family)

    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("inside the edit")

    with bit_equal_logits(model), pytest.raises(RuntimeError, match="inside the edit"):
        logits_of(model, batch_of(model), edit=broken)


@pytest.mark.parametrize("family", FAMILIES)
def test_baseline_is_never_the_padding_of_a_model_that_pools_at_the_last_token(family: str) -> None:
    model = explained(family)
    expected = {"encoder": "[MASK]", "roberta": "<mask>", "gemma": "<mask>", "llama": "<unk>", "t5": "<unk>"}
    expected |= {"gpt2": "Ġ", "qwen2": "Ġ"}  # their only special token pads
    assert model.tokenizer.convert_ids_to_tokens(model.baseline_token_id) == expected[TOKENIZERS.get(family, "encoder")]
    ids = torch.tensor([model.baseline_token_id])
    assert torch.equal(model.baseline_embedding(), model.embedding(ids)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_is_causal_says_which_families_see_earlier_tokens_only(family: str) -> None:
    assert explained(family).is_causal == (FAMILIES[family][0] == "decoder")


# Fingerprint


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_equal_models_have_equal_fingerprints(family: str) -> None:
    assert fresh(family).fingerprint == fresh(family).fingerprint


def test_the_fingerprint_changes_with_weights_labels_and_baseline() -> None:
    base = explained("bert")
    moved = fresh("bert")
    with torch.no_grad():
        next(iter(moved.model.parameters()))[0, 0] += 1e-3
    other_baseline = ExplainedModel(fresh("bert").model, base.tokenizer, baseline_token="[UNK]")
    prints = {base.fingerprint, moved.fingerprint, named_labels().fingerprint, other_baseline.fingerprint}
    assert len(prints) == 4


def test_labels_are_in_the_order_of_the_logits() -> None:
    assert named_labels().labels == LABELS


# What methods need to know of the network


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_the_blocks_in_their_order(family: str) -> None:
    model = fresh(family)
    called: list[int] = []
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda *_, i=i: called.append(i))
    logits_of(model, batch_of(model))
    assert called == list(range(model.model.config.get_text_config().num_hidden_layers))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_the_pooled_positions_and_no_other(family: str) -> None:
    model = fresh(family)
    batch = batch_of(model)
    share = model.task.read_share(batch)
    assert torch.allclose(share.sum(dim=1), torch.ones(len(batch)))
    base = model.model.base_model
    last = base.get_decoder().block[-1] if model.model.config.is_encoder_decoder else model.layers[-1]
    before = logits_of(model, batch)

    def moved(where: Tensor) -> Tensor:
        """The logits with the last layer's output changed at some positions."""

        def change(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
            state = output if isinstance(output, Tensor) else output[0]
            noise = torch.linspace(-1, 1, state.shape[-1]) * where[..., None]
            return state + noise if isinstance(output, Tensor) else (state + noise, *output[1:])

        handle = last.register_forward_hook(change)
        logits = logits_of(model, batch)
        handle.remove()
        return logits

    assert torch.allclose(moved((share == 0).float()), before, atol=1e-6)
    assert not torch.allclose(moved((share > 0).float()), before, atol=1e-4)


def test_a_head_that_averages_reads_every_real_position_alike() -> None:
    model = fresh("modernbert")
    model.model.config.classifier_pooling = "mean"
    model = ExplainedModel(model.model, model.tokenizer)
    batch = batch_of(model)
    assert torch.equal(model.task.read_share(batch) > 0, batch.attention_mask.bool())


@pytest.mark.parametrize("family", FAMILIES)
def test_predict_reads_blanked_tokens_as_zero_embeddings(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    rows = batch.sequences()
    blanked = [row.blanked(mask) for row, mask in zip(rows, batch.split(batch.scorable), strict=True)]
    expected = logits_of(model, batch, edit=lambda embeddings: embeddings.masked_fill(batch.scorable[..., None], 0))
    found = predictions(model, [*rows, *blanked])
    assert torch.allclose(found[len(rows) :], expected, atol=1e-5)
    assert torch.allclose(found[: len(rows)], logits_of(model, batch), atol=1e-5)
    assert not torch.allclose(found[len(rows) :], found[: len(rows)], atol=1e-3)
