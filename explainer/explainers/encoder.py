"""An explainer with a small encoder of its own, which reads the text by a tokenizer of its own.

The explained model may be a large decoder and the encoder a small one: AML's mask model need not be of the explained
model's family. Each piece of the encoder gets a number, and each of the explained model's tokens the largest, mean or
smallest number of the pieces that share characters with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from tokenizers import Encoding
from torch import Tensor, nn
from transformers import PreTrainedModel

from explainer.explained import EncodedText, ExplainedModel, Target, TokenBatch, Tokens
from explainer.explained.batch import collate
from explainer.explained.loading import load_base
from explainer.explainers.alignment import Pairs, Spans, aligned
from explainer.explainers.backbone import AbstractBackboneExplainer
from explainer.typing import Scores

POOLING = {"max": "amax", "mean": "mean", "min": "amin"}
"""torch's names of the reductions."""


class EncoderExplainer(AbstractBackboneExplainer):
    """A small pretrained encoder beside the explained model, trained whole.

    It reads the characters that the explained model reads: what truncation cut off there is not read here. A text that
    is longer than the encoder takes is read in windows, one after the other, each with the target.

    Args:
        encoder: hub id or folder of a pretrained encoder; an export holds its weights, and takes configuration and
            tokenizer from here.
        pooling: the number of an explained token of several pieces: their `max`, `mean` or `min`.

    Raises:
        ValueError: when there is no such encoder or pooling, the encoder does not read both ways, or padding changes
            what it reads; in a pass, when the batch has no texts, or a text and its pair are longer than the encoder
            takes.
    """

    kind: ClassVar[str] = "encoder"
    reads_ids: ClassVar[bool] = False

    def __init__(
        self,
        explained: ExplainedModel,
        encoder: str = "sentence-transformers/all-MiniLM-L6-v2",
        pooling: str = "mean",
    ) -> None:
        if pooling not in POOLING:
            raise ValueError(f"`pooling` must be one of {', '.join(POOLING)}, got {pooling!r}.")
        if explained.task.anchored:
            raise ValueError(
                f"The {self.kind} explainer reads texts by a tokenizer of its own, in which the tokens that the target "
                "is about are not marked: take `side`, `separate` or `lora`."
            )
        encoder = str(Path(encoder).resolve()) if Path(encoder).is_dir() else encoder
        # The classification head that comes with it is not read.
        model, tokenizer, _ = load_base(encoder, ["0", "1"], torch.float32)
        reader = ExplainedModel(model, tokenizer, name=encoder)
        if not reader.pads:
            raise ValueError(f"`encoder` {encoder!r} reads a text otherwise when it is padded: name another one.")
        super().__init__(explained, reader, encoder=encoder, pooling=pooling)
        self._readers = (reader,)  # not a module of this one: a reader stays in eval mode, its backbone does not
        self.network = reader.backbone.requires_grad_(True)
        if getattr(self.network, "pooler", None) is not None:
            self.network.pooler = nn.Identity()  # not read here, so not trained and not saved
        self.pooling = pooling
        own, theirs = (
            sum(parameter.numel() for layer in model.layers for parameter in layer.parameters())
            for model in (reader, explained)
        )
        self.forward_equivalents = own / theirs

    @property
    def reader(self) -> ExplainedModel:
        """The encoder with its tokenizer."""
        return self._readers[0]

    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        return self.network

    def forward(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        if batch.texts is None:
            raise ValueError(
                "The encoder explainer reads texts, and `batch` holds token ids alone: make it of encoded texts by "
                "`ExplainedModel.collate`."
            )
        device = self.label.shared.device
        reading = _Reading.of(self.reader, batch)
        numbers = self.read(self.reader, reading.windows.to(device), target[reading.rows])
        pieces = numbers.float().flatten()[reading.piece.to(device)]
        scores = pieces.new_zeros(batch.input_ids.numel()).scatter_reduce(
            0, reading.token.to(device), pieces, POOLING[self.pooling], include_self=False
        )
        return scores.view_as(batch.input_ids).masked_fill(~batch.scorable, 0.0)


@dataclass(frozen=True, eq=False)
class _Reading:
    """The texts of a batch as the encoder reads them.

    Attributes:
        windows: the texts by its tokens, right-padded; a long text is several rows.
        rows: the text in the batch that each window is of.
        token: places in the flattened batch.
        piece: beside each, the place in the flattened windows of a piece that shares a character with it.
    """

    windows: TokenBatch
    rows: list[int]
    token: Pairs
    piece: Pairs

    @classmethod
    def of(cls, reader: ExplainedModel, batch: TokenBatch) -> "_Reading":
        texts = batch.texts
        assert texts is not None
        kept = [[_kept(text, segment) for segment in (0, 1)] for text in texts]
        rows, encodings = _windows(reader, texts, kept)
        with_types = "token_type_ids" in reader.tokenizer.model_input_names
        windows = collate(
            [Tokens(torch.tensor(one.ids), torch.tensor(one.type_ids) if with_types else None) for one in encodings],
            pad_token_id=reader.tokenizer.pad_token_id,
        )
        shift = torch.tensor([[start for start, _ in spans] for spans in kept])
        pieces, places = _pieces(encodings, rows, windows, shift)
        tokens, own = _tokens(texts, batch)
        token, piece = aligned(tokens, pieces)
        return cls(windows, rows, own[token], places[piece])


def _kept(text: EncodedText, segment: int) -> tuple[int, int]:
    """First and last + 1 character of a segment that the explained model reads."""
    own = text.scorable & (torch.tensor(text.segments) == segment)
    offsets = torch.tensor(text.offsets).view(-1, 2)[own]
    return (int(offsets[:, 0].min()), int(offsets[:, 1].max())) if len(offsets) else (0, 0)


def _windows(
    reader: ExplainedModel, texts: Sequence[EncodedText], kept: Sequence[Sequence[tuple[int, int]]]
) -> tuple[list[int], list[Encoding]]:
    """The encoder's tokens of every text in windows that it takes, and the text that each is of.

    Raises:
        ValueError: when a text and its pair are longer than one window.
    """
    limit = reader.text.max_tokens
    room = None if limit is None else limit - 1  # for the target
    found: list[tuple[int, int, Encoding]] = []
    for paired in (False, True):
        group = [i for i, text in enumerate(texts) if (text.text_pair is not None) == paired]
        if not group:
            continue
        firsts = [texts[i].text[slice(*kept[i][0])] for i in group]
        seconds = [(texts[i].text_pair or "")[slice(*kept[i][1])] for i in group] if paired else None
        cut = room is not None and not paired
        encoding = reader.tokenizer(
            firsts,
            seconds,
            truncation=cut,
            max_length=room if cut else None,
            return_overflowing_tokens=cut,
            verbose=False,
        )
        numbers = encoding.get("overflow_to_sample_mapping", range(len(group)))
        for number, one in zip(numbers, encoding.encodings, strict=True):
            if room is not None and len(one) > room:
                raise ValueError(
                    f"The text {texts[group[number]].text[:60]!r} and its pair have {len(one)} tokens of the encoder, "
                    f"which takes {room} beside the target: shorten them, or name another `encoder`."
                )
            found.append((group[number], _first_character(one), one))
    found.sort(key=lambda one: one[:2])  # a tokenizer that cuts on the left gives the last window first
    return [row for row, *_ in found], [one for *_, one in found]


def _first_character(encoding: Encoding) -> int:
    return min(
        (start for (start, _), added in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not added),
        default=0,
    )


def _pieces(
    encodings: Sequence[Encoding], rows: Sequence[int], windows: TokenBatch, shift: Tensor
) -> tuple[Spans, Pairs]:
    """The encoder's pieces of text, and their places in the flattened windows.

    A text without any, such as white space alone, is read at its first special token.
    """
    offsets = torch.cat([torch.tensor(one.offsets).view(-1, 2) for one in encodings])
    added = torch.cat([torch.tensor(one.special_tokens_mask, dtype=torch.bool) for one in encodings])
    lengths = torch.tensor([len(one) for one in encodings])
    row = torch.tensor(rows).repeat_interleave(lengths)
    segment = torch.cat([torch.tensor([1 if s == 1 else 0 for s in one.sequence_ids]) for one in encodings])
    has_any = torch.zeros(len(shift), dtype=torch.bool).index_fill(0, row[~added], True)
    first = torch.zeros_like(added).index_fill(0, lengths.cumsum(0) - lengths, True)
    chosen = ~added | (first & ~has_any[row])
    row, segment, offsets = row[chosen], segment[chosen], offsets[chosen] + shift[row, segment][chosen, None]
    places = windows.attention_mask.flatten().nonzero()[:, 0][chosen]
    return Spans(row, segment, offsets[:, 0], offsets[:, 1]), places


def _tokens(texts: Sequence[EncodedText], batch: TokenBatch) -> tuple[Spans, Pairs]:
    """The scorable tokens of the explained model, and their places in the flattened batch."""
    scorable = torch.cat([text.scorable for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    row = torch.arange(len(texts)).repeat_interleave(lengths)[scorable]
    segment = torch.cat([torch.tensor(text.segments) for text in texts])[scorable]
    offsets = torch.cat([torch.tensor(text.offsets).view(-1, 2) for text in texts])[scorable]
    places = batch.attention_mask.cpu().flatten().nonzero()[:, 0][scorable]
    return Spans(row, segment, offsets[:, 0], offsets[:, 1]), places
