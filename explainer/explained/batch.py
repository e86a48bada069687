"""Texts as tokens: the ids of one text, the encoded text, and the padded batch of several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from explainer.typing import TokenIds, TokenMask

PaddingSide = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The ids a model reads for one text: what a perturbation changes.

    Attributes:
        zeroed: where it is true, the word embedding is the zero vector instead of the id's.
        hidden: where it is true, no token attends to this one; it keeps its position.
        anchors: the number, from 1, of the question that this token is about, by which a task finds where it reads; no
            perturbation deletes such a token. 0 elsewhere; None where a task reads the same place of every text.
        places: each token's position in the whole text, of a task whose choices are positions: they keep their numbers
            when other tokens are deleted.
        decoder: ids of the response that the decoder of an encoder-decoder is given, and below them their anchors: it
            is asked for each of them after those before it. Perturbations leave it as it is.
    """

    input_ids: TokenIds
    token_type_ids: TokenIds | None = None
    zeroed: TokenMask | None = None
    hidden: TokenMask | None = None
    anchors: TokenIds | None = None
    places: TokenIds | None = None
    decoder: Int64[Tensor, "2 _response"] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def select(self, mask: TokenMask) -> "Tokens":
        """The tokens where `mask` is true; the others are deleted, so positions renumber."""
        parts: list[Any] = [None if part is None else part[mask] for part in self._parts]
        return replace(Tokens(*parts), decoder=self.decoder)

    def deleted(self, mask: TokenMask, token_id: int) -> "Tokens":
        """The tokens without those where `mask` is true; in the place of an anchored one `token_id` stands instead.

        What a task reads of the text therefore stays, whatever is deleted.
        """
        if self.anchors is None:
            return self.select(~mask)
        read = mask & (self.anchors > 0)
        return self.replaced(read, token_id).select(~mask | read)

    def preceded_by(self, token_id: int) -> "Tokens":
        """The tokens after one more."""
        first = F.pad(self.input_ids, (1, 0), value=token_id)
        parts: list[Any] = [None if part is None else F.pad(part, (1, 0)) for part in self._parts[1:]]
        return replace(Tokens(first, *parts), decoder=self.decoder)

    def replaced(self, mask: TokenMask, token_id: int) -> "Tokens":
        """All tokens, those where `mask` is true with the id `token_id`."""
        return replace(self, input_ids=self.input_ids.masked_fill(mask, token_id))

    def blanked(self, mask: TokenMask) -> "Tokens":
        """All tokens, the word embeddings of those where `mask` is true zero."""
        return replace(self, zeroed=mask if self.zeroed is None else mask | self.zeroed)

    def concealed(self, mask: TokenMask) -> "Tokens":
        """All tokens at their positions, those where `mask` is true hidden from attention."""
        return replace(self, hidden=mask if self.hidden is None else mask | self.hidden)

    @property
    def key(self) -> bytes:
        """Equal for sequences that a model cannot tell apart."""
        parts = (*self._parts, self.decoder)
        return b"|".join(b"" if part is None else part.numpy().tobytes() for part in parts)

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.input_ids, self.token_type_ids, self.zeroed, self.hidden, self.anchors, self.places

    @property
    def n_questions(self) -> int:
        """The number of places at which the answer is read."""
        anchors = self.anchors if self.decoder is None else self.decoder[1]
        return 1 if anchors is None else int(anchors.max())


@dataclass(frozen=True, eq=False)
class EncodedText:
    """One text, its tokens, and where each token lies in it.

    `scorable` marks the tokens that get a score: not special, not padding.
    `offsets` are `(start, end)` characters of `text` (of `text_pair` where `segments` is 1);
    `words` numbers the word a token belongs to (`explainer.scored_text.word_numbers`), -1 for specials.
    `units` numbers the stretch of text that is scored as one; without it every scorable token is a unit of its own.
    """

    text: str
    text_pair: str | None
    tokens: Tokens
    scorable: TokenMask
    offsets: tuple[tuple[int, int], ...]
    words: tuple[int, ...]
    segments: tuple[int, ...]
    units: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_scorable(self) -> int:
        return int(self.scorable.sum())

    @property
    def unit_masks(self) -> list[TokenMask]:
        """The scorable tokens of each unit, in the order of the text; methods that perturb take units away whole."""
        places = self.scorable.nonzero()[:, 0].tolist()
        numbers = places if self.units is None else [self.units[place] for place in places]
        masks: dict[int, TokenMask] = {}
        for place, number in zip(places, numbers, strict=True):
            masks.setdefault(number, torch.zeros(len(self), dtype=torch.bool))[place] = True
        return list(masks.values())


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Several texts padded to one length, on either side.

    Attributes:
        texts: what the rows were encoded from, for an explainer that reads texts; None where they are no whole texts.
        decoder: `Tokens.decoder` of each text, padded on the right.
    """

    input_ids: Int64[Tensor, "batch seq"]
    attention_mask: Int64[Tensor, "batch seq"]
    scorable: Bool[Tensor, "batch seq"]
    token_type_ids: Int64[Tensor, "batch seq"] | None = None
    hidden: Bool[Tensor, "batch seq"] | None = None
    anchors: Int64[Tensor, "batch seq"] | None = None
    places: Int64[Tensor, "batch seq"] | None = None
    texts: tuple[EncodedText, ...] | None = None
    decoder: Int64[Tensor, "batch 2 response"] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, texts: Any) -> "TokenBatch":
        """Some of the texts: a slice or indices."""
        chosen = texts.cpu() if isinstance(texts, Tensor) else texts
        return self._map(lambda one: one[texts], torch.arange(len(self))[chosen].tolist(), lambda one: one[texts])

    @property
    def device(self) -> torch.device:
        return self.input_ids.device

    @property
    def position_ids(self) -> Int64[Tensor, "batch seq"]:
        """0, 1, 2 ... over the real tokens, wherever the padding lies."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    def to(self, device: torch.device | str) -> "TokenBatch":
        return self._map(lambda tensor: tensor.to(device), of_decoder=lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> "TokenBatch":
        """The whole batch `times` times over, as captum expands inputs over its steps."""
        rows = [*range(len(self))] * times
        return self._map(lambda one: one.repeat(times, 1), rows, lambda one: one.repeat(times, 1, 1))

    def columns(self, n: int) -> "TokenBatch":
        """The first `n` columns."""
        return self._map(lambda tensor: tensor[:, :n])

    def right_padded(self) -> tuple["TokenBatch", Int64[Tensor, "batch seq"] | None]:
        """The batch with all padding on the right, and the column that each of its columns came from (None: unmoved).

        Classifiers that pool at the first position (BERT, ModernBERT) would read the padding of a left-padded batch.
        An exported program takes padding on the right only.
        """
        if torch.compiler.is_exporting():
            return self, None
        if bool((self.attention_mask[:, 1:] <= self.attention_mask[:, :-1]).all()):
            return self, None
        order = (1 - self.attention_mask).argsort(dim=1, stable=True)
        return self._map(lambda tensor: tensor.gather(1, order)), order

    def original_order(self, values: Tensor, order: Tensor | None) -> Tensor:
        """A (batch, seq, ...) tensor of the aligned columns in this batch's own; `order` as `right_padded` gave it."""
        if order is None or values.shape[:2] != order.shape:
            return values
        back = order.argsort(dim=1)
        return values.gather(1, back.view(*back.shape, *[1] * (values.ndim - 2)).expand_as(values))

    def sequences(self) -> list[Tokens]:
        """Each text's tokens without padding."""
        return [
            Tokens(
                ids[mask],
                None if self.token_type_ids is None else self.token_type_ids[i][mask],
                anchors=None if self.anchors is None else self.anchors[i][mask],
                places=None if self.places is None else self.places[i][mask],
                decoder=None if self.decoder is None else self.decoder[i],
            )
            for i, (ids, mask) in enumerate(zip(self.input_ids, self.attention_mask.bool(), strict=True))
        ]

    def unbatched(self) -> list["TokenBatch"]:
        """Each text as a batch of its own, without padding."""
        real = self.attention_mask.bool()
        return [
            self._map(partial(_row_alone, i, real[i]), [i], partial(_row_alone, i, slice(None)))
            for i in range(len(self))
        ]

    def split(self, values: Tensor) -> list[Tensor]:
        """Rows of a (batch, seq) tensor without padding, one tensor per text."""
        return [row[mask] for row, mask in zip(values, self.attention_mask.bool(), strict=True)]

    def _map(
        self,
        function: Callable[[Tensor], Tensor],
        places: Sequence[int] | None = None,
        of_decoder: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> "TokenBatch":
        """The batch of other tensors, and of the texts at these places (by default all)."""
        tensors: list[Any] = [None if tensor is None else function(tensor) for tensor in self.tensors]
        kept = self.texts if self.texts is None or places is None else tuple(self.texts[i] for i in places)
        decoder = None if self.decoder is None else of_decoder(self.decoder)
        return replace(TokenBatch(*tensors), texts=kept, decoder=decoder)

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The batch as its tensors, in the order of the constructor's arguments."""
        return (
            self.input_ids,
            self.attention_mask,
            self.scorable,
            self.token_type_ids,
            self.hidden,
            self.anchors,
            self.places,
        )


def _row_alone(i: int, real: Tensor | slice, tensor: Tensor) -> Tensor:
    return tensor[i : i + 1, real]


def pad(rows: Sequence[Tensor], value: int | float | bool, side: PaddingSide = "right") -> Tensor:
    """Rows of different lengths as one tensor, filled up with `value`."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side=side)


def collate(
    tokens: Sequence[Tokens],
    scorable: Sequence[Bool[Tensor, "_"]] | None = None,
    *,
    pad_token_id: int,
    side: PaddingSide = "right",
) -> TokenBatch:
    """Pad token rows to one batch; `scorable` is all false where it is not given."""
    ids = [row.input_ids for row in tokens]
    masks = [torch.zeros_like(row, dtype=torch.bool) for row in ids] if scorable is None else list(scorable)
    types = [row.token_type_ids for row in tokens if row.token_type_ids is not None]
    anchors = [row.anchors for row in tokens if row.anchors is not None]
    places = [row.places for row in tokens if row.places is not None]
    decoders = [row.decoder.T for row in tokens if row.decoder is not None]
    return TokenBatch(
        input_ids=pad(ids, pad_token_id, side),
        attention_mask=pad([torch.ones_like(row) for row in ids], 0, side),
        scorable=pad(masks, False, side),
        token_type_ids=pad(types, 0, side) if types else None,
        hidden=padded_masks([row.hidden for row in tokens], ids, side),
        anchors=pad(anchors, 0, side) if anchors else None,
        places=pad(places, 0, side) if places else None,
        decoder=pad(decoders, 0).transpose(1, 2) if decoders else None,  # what follows the last anchor is not read
    )


def padded_masks(
    masks: Sequence[Bool[Tensor, "_"] | None], like: Sequence[Tensor], side: PaddingSide = "right"
) -> Bool[Tensor, "batch seq"] | None:
    """Masks of some of the sequences as one, false where a sequence has none; None where none has one."""
    if all(mask is None for mask in masks):
        return None
    filled = [torch.zeros_like(row, dtype=torch.bool) if m is None else m for m, row in zip(masks, like, strict=True)]
    return pad(filled, False, side)
