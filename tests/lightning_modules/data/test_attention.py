"""Collected reference attention is the model's own on the replaced text, read back from disk in any batch."""

import math
from pathlib import Path

import pytest
import torch

from explainer.explained import Readout, edit_attention_weights
from explainer.explained.batch import collate
from explainer.explained.upper_layers import LayerAttention
from explainer.methods.subset_regression import SubsetEffects
from lightning_modules.data import attention
from lightning_modules.data.attention import (
    AttentionStore,
    ReferenceAnnotations,
    ReferenceAttention,
    replaced_of,
    scale_of,
)
from tests.families import TEXTS, explained


@pytest.mark.parametrize("family", ["bert", "llama", "mistral", "t5"])
def test_stored_attention_is_the_model_s_on_the_replaced_text(family: str, tmp_path: Path) -> None:
    model = explained(family)
    texts = model.encode(TEXTS)
    store = AttentionStore(model, texts, [1], 3, seed=4, folder=tmp_path)
    index = [3, 0, 2]
    for variant in range(3):
        stored = store(index, variant)
        for row, i in enumerate(index):
            mask, n = replaced_of(texts[i], variant, 4), len(texts[i])
            assert torch.equal(stored.replaced[row, :n], mask)
            tokens = texts[i].tokens.replaced(mask, model.baseline_token_id)
            recorded = LayerAttention(model, [1])
            with edit_attention_weights(model.model, recorded):
                readout = model(collate([tokens], pad_token_id=model.tokenizer.pad_token_id))
            attention = recorded.attention
            assert torch.allclose(stored.readout.logits[row], readout.logits[0], atol=1e-4)
            assert torch.allclose(stored.logs[row, :, :, :n, :n].exp(), attention[:, 0], atol=2e-3)
            assert torch.equal(stored.valid[row, :, :n, :n], (attention[:, 0] != 0).any(dim=1))
            assert not stored.valid[row, :, n:].any()
            assert not stored.valid[row, :, :, n:].any()


def test_a_damaged_file_is_collected_again(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    whole = AttentionStore(model, texts, [1], 2, folder=tmp_path)([0, 3], 1)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for damaged in (content[:200], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        again = AttentionStore(model, texts, [1], 2, folder=tmp_path)([0, 3], 1)
        assert torch.equal(again.logs, whole.logs)
        assert path.read_bytes() == content


def test_a_batch_reads_the_attention_of_its_own_texts(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    store = AttentionStore(model, texts, [0, 1], 2, folder=tmp_path)
    effects = [SubsetEffects(torch.zeros(2, len(text)), torch.full((2,), float(i))) for i, text in enumerate(texts)]
    batch = ReferenceAnnotations(model, texts, store, effects).batch([3, 1])
    assert len(batch) == len(batch.tokens) == 2
    assert [effect.value[0].item() for effect in batch.effects] == [3, 1]
    for variant in (0, 1):
        assert torch.equal(batch.reference(variant).logs, store([3, 1], variant).logs)


def test_the_scale_is_the_deviation_of_centred_logarithms() -> None:
    attention = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])[None, None, None]
    reference = ReferenceAttention(attention.log(), torch.zeros(1, 3).bool(), Readout(torch.zeros(1, 1, 2)))
    half = math.log(0.9 / 0.1) / 2
    assert scale_of(reference).item() == pytest.approx((2 * half**2 / 4) ** 0.5, rel=1e-5)


def test_the_first_variant_replaces_all_and_the_others_subsets_of_the_text_s_own() -> None:
    texts = explained("bert").encode(TEXTS)
    for text in texts:
        assert torch.equal(replaced_of(text, 0, 0), text.scorable)
        subsets = [replaced_of(text, variant, 0) for variant in range(1, 30)]
        assert all((subset <= text.scorable).all() for subset in subsets)
        assert len({tuple(subset.tolist()) for subset in subsets}) > 1
    shares = [float(replaced_of(texts[3], v, 0).sum()) / texts[3].n_scorable for v in range(1, 400)]
    assert abs(sum(shares) / len(shares) - 0.5) < 0.05


def test_files_are_written_once_and_hold_no_more_than_their_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CHUNK", 3)
    model = explained("bert")
    texts = model.encode(TEXTS)
    first = AttentionStore(model, texts, [0, 1], 1, folder=tmp_path)([3, 1], 0)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    again = AttentionStore(model, texts, [0, 1], 1, folder=tmp_path)([3, 1], 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert torch.equal(again.logs, first.logs)
    AttentionStore(model, texts, [1], 1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
