"""The command `heads`: which attention heads of a model look at fixed offsets and at dependency heads."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from explainer.attention_heads.alignment import arcs
from explainer.attention_heads.mask import HeadMask
from explainer.attention_heads.parses import Parse, parse_with_spacy, read_conllu
from explainer.attention_heads.selection import positional, summary, syntactic
from explainer.attention_heads.statistics import RELATIONS, HeadShares, HeadStatistics
from explainer.commands.jsonl import CHUNK, InputError, read_lines
from explainer.explained import EncodedText, ExplainedModel, edit_attention_maps
from explainer.explained.passes import token_budgeted


def heads(
    model: str,
    output: Path,
    conllu: Path | None = None,
    parser: str | None = None,
    input: Path | None = None,
    xi_pos: float = 0.8,
    xi_synt: float = 0.1,
    relations: list[str] | None = None,
    picture: Path | None = None,
    note: str = "",
    batch_tokens: int = 4096,
) -> None:
    """Find the attention heads that look at fixed offsets and at dependency heads: the head mask of `mask_lrp`.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        output: heads.json: the mask, the statistics it was chosen by, the thresholds.
        conllu: parsed sentences in CoNLL-U, with their `# text =` lines.
        parser: instead of conllu: spacy:NAME, an installed spaCy pipeline that parses the texts of `input`.
        input: JSON lines with `text`, for the parser.
        xi_pos: a head is positional when its argmax lies at one offset for more than this share of the tokens.
        xi_synt: a head is syntactic when it hits a relation more often than always guessing the relation's most
            frequent offset, by more than this share.
        relations: universal dependency relations; nsubj, obj, amod, advmod by default.
        picture: an image file, by its suffix: heads by relation.
        note: where the parses come from, kept in the output.
        batch_tokens: token budget of a forward pass.
    """
    parses = _parses(conllu, parser, input)
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    explained.to("cuda" if torch.cuda.is_available() else "cpu")
    kinds = tuple(relations or RELATIONS)
    shares, n_texts = statistics_of(explained, parses, kinds)
    found = head_mask(explained, shares, kinds, xi_pos, xi_synt, f"{note} {n_texts} texts.".strip())
    found.save(output)
    if picture is not None:
        from explainer.attention_heads.figure import heads_by_relation

        heads_by_relation(found).savefig(picture, bbox_inches="tight")
    kept = sum(sum(row) for row in found.mask)
    print(f"{kept:.0f} of {len(found.mask) * len(found.mask[0])} heads kept: {output}", file=sys.stderr)


def head_mask(
    explained: ExplainedModel, shares: HeadShares, relations: tuple[str, ...], xi_pos: float, xi_synt: float, note: str
) -> HeadMask:
    """The positional and the syntactic heads, and what they were chosen by."""
    return HeadMask(
        mask=(positional(shares, xi_pos) | syntactic(shares, xi_synt)).float().tolist(),
        model=explained.name,
        fingerprint=explained.fingerprint,
        thresholds={"xi_pos": xi_pos, "xi_synt": xi_synt},
        statistics=summary(shares, relations),
        note=note,
    )


def statistics_of(
    explained: ExplainedModel, parses: Iterable[Parse], relations: tuple[str, ...]
) -> tuple[HeadShares, int]:
    """The statistics of every head over the parsed texts, and their number.

    Raises:
        ValueError: when there is none.
    """
    config = explained.model.config.get_text_config()
    statistics = HeadStatistics(len(explained.layers), config.num_attention_heads, relations)
    n_texts, stream = 0, iter(parses)
    while chunk := list(islice(stream, CHUNK)):
        n_texts += len(chunk)
        texts = explained.encode([parse.text for parse in chunk])
        for rows in token_budgeted([len(text) for text in texts], explained.batch_tokens):
            for i, peaks in zip(rows, attention_peaks(explained, [texts[i] for i in rows]), strict=True):
                statistics.update(peaks, texts[i].scorable, arcs(texts[i], chunk[i], relations))
    if not n_texts:
        raise ValueError("There are no parsed texts to look at.")
    return statistics.compute(), n_texts


@torch.no_grad()
def attention_peaks(explained: ExplainedModel, texts: list[EncodedText]) -> list[Tensor]:
    """(layers, heads, tokens) a text: the position that each token attends to most in the backbone's own layers."""
    found: list[Tensor] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        found.append(weights.argmax(dim=-1).cpu())
        return weights

    with edit_attention_maps(explained.model, read):
        explained(explained.collate(texts))
    peaks = torch.stack(found[: len(explained.layers)], dim=1)  # (batch, layers, heads, seq)
    return [row[..., : len(text)] for row, text in zip(peaks, texts, strict=True)]


def _parses(conllu: Path | None, parser: str | None, source: Path | None) -> Iterator[Parse]:
    if (conllu is None) == (parser is None):
        raise ValueError("Give `--conllu FILE`, or `--parser spacy:NAME --input TEXTS`.")
    if conllu is not None:
        return read_conllu(conllu)
    assert parser is not None
    kind, _, name = parser.partition(":")
    if kind != "spacy" or not name:
        raise ValueError(f"`--parser` must be spacy:NAME, as spacy:en_core_web_sm, got {parser!r}.")
    if source is None:
        raise ValueError("`--parser` needs `--input`, JSON lines with `text`.")
    return parse_with_spacy(name, list(_texts(source)))


def _texts(source: Path) -> Iterator[str]:
    for number, line in read_lines(source):
        if not isinstance(line.get("text"), str):
            raise InputError(f"{source}, line {number}: `text` must be a string, got {line.get('text')!r}.")
        yield line["text"]
