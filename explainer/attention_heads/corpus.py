"""The heads of a model that look at fixed offsets or at dependency heads, counted over a parsed corpus."""

from collections.abc import Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from explainer.attention_heads.alignment import arcs
from explainer.attention_heads.mask import HeadMask
from explainer.attention_heads.parses import Parse
from explainer.attention_heads.selection import positional, summary, syntactic
from explainer.attention_heads.statistics import RELATIONS, HeadShares, HeadStatistics
from explainer.explained import EncodedText, ExplainedModel, check_one_per_layer, edit_attention_weights

CHUNK = 256
"""The number of texts that are encoded at once."""


def head_mask(
    explained: ExplainedModel,
    parses: Iterable[Parse],
    relations: tuple[str, ...] = RELATIONS,
    xi_pos: float = 0.8,
    xi_synt: float = 0.1,
    note: str = "",
) -> HeadMask:
    """The positional and the syntactic heads of a model, and the statistics they were chosen by.

    Args:
        relations: the dependency relations to look at.
        xi_pos: a head is positional when its argmax lies at one offset for more than this share of the tokens.
        xi_synt: a head is syntactic when it hits a relation more often than always guessing the relation's most
            frequent offset, by more than this share.
        note: where the parses come from; the number of texts is added.

    Raises:
        ValueError: when there is no parsed text.
    """
    shares, n_texts = corpus_statistics(explained, parses, relations)
    return HeadMask(
        mask=(positional(shares, xi_pos) | syntactic(shares, xi_synt)).float().tolist(),
        model=explained.name,
        fingerprint=explained.fingerprint,
        thresholds={"xi_pos": xi_pos, "xi_synt": xi_synt},
        statistics=summary(shares, relations),
        note=f"{note} {n_texts} texts.".strip(),
    )


def corpus_statistics(
    explained: ExplainedModel, parses: Iterable[Parse], relations: tuple[str, ...]
) -> tuple[HeadShares, int]:
    """The statistics of every head over the parsed texts, and the number of texts.

    Raises:
        ValueError: when there is no parsed text.
    """
    config = explained.model.config.get_text_config()
    statistics = HeadStatistics(explained.depth, config.num_attention_heads, relations)
    n_texts, stream = 0, iter(parses)
    while chunk := list(islice(stream, CHUNK)):
        n_texts += len(chunk)
        # A sentence of the corpus is read alone, also by a model of questions.
        encode = explained.text.encode if explained.task.anchored else explained.encode
        texts = encode([parse.text for parse in chunk])

        def run(places: list[int], texts: list[EncodedText] = texts) -> list[Tensor]:
            return attention_peaks(explained, [texts[i] for i in places])

        for places, of_each in explained.in_batches(texts, run):
            for i, peaks in zip(places, of_each, strict=True):
                statistics.update(peaks, texts[i].scorable, arcs(texts[i], chunk[i], relations))
    if not n_texts:
        raise ValueError("There are no parsed texts to look at.")
    return statistics.compute(), n_texts


@torch.no_grad()
def attention_peaks(explained: ExplainedModel, texts: Sequence[EncodedText]) -> list[Tensor]:
    """The position that each token attends to most, (layers, heads, tokens) per text, in the backbone's own layers."""
    peaks_by_layer: list[Tensor] = []
    shapes: list[torch.Size] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        shapes.append(weights.shape)
        peaks_by_layer.append(weights.argmax(dim=-1).cpu())
        return weights

    with edit_attention_weights(explained.model, read):
        explained(explained.collate(texts))
    check_one_per_layer(explained.model, explained.depth, shapes)
    peaks = torch.stack(peaks_by_layer[: explained.depth], dim=1)  # (batch, layers, heads, seq)
    return [own[..., : len(text)] for own, text in zip(peaks, texts, strict=True)]
