"""Statistics over a corpus: attention read from the model, whatever the batches."""

import pytest
import torch

from explainer.attention_heads import Parse, Word, corpus
from explainer.attention_heads.corpus import attention_peaks, corpus_statistics, head_mask
from explainer.attention_heads.selection import positional, syntactic
from explainer.methods.attention.weights import attention_weights
from tests.explainer.tools import double, encoded
from tests.families import FAMILIES, TEXTS

KINDS = ("nsubj", "amod")


def parses() -> list[Parse]:
    """The first word of each text depends on the second."""
    return [Parse(text, (Word(0, 3, 1, "nsubj"), Word(4, 8, None, "root"))) for text in TEXTS if len(text) > 8]


@pytest.mark.parametrize("family", FAMILIES)
def test_peaks_are_the_largest_attention_whatever_the_batch(family: str) -> None:
    model = double(family)
    texts = encoded(model)
    for text, peaks in zip(texts, attention_peaks(model, texts), strict=True):
        attention = attention_weights(model, model.collate([text]))[: len(model.layers)]
        alone = torch.stack([weights[0].argmax(dim=-1) for weights in attention])
        assert peaks.shape == alone.shape
        assert torch.equal(peaks, alone)


def test_statistics_do_not_depend_on_how_texts_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = double("bert")
    whole, n_texts = corpus_statistics(model, parses(), KINDS)
    assert n_texts == len(parses())
    monkeypatch.setattr(corpus, "CHUNK", 1)
    alone, _ = corpus_statistics(model, iter(parses()), KINDS)
    assert torch.equal(whole.offsets, alone.offsets)
    assert torch.equal(whole.hits, alone.hits)


def test_a_mask_has_the_heads_that_the_thresholds_select() -> None:
    model = double("bert")
    shares, _ = corpus_statistics(model, parses(), KINDS)
    mask = head_mask(model, parses(), KINDS, xi_pos=0.3, xi_synt=0.2, note="by hand,")
    assert mask.tensor(model).bool().equal(positional(shares, 0.3) | syntactic(shares, 0.2))
    assert mask.note == f"by hand, {len(parses())} texts."
