"""Texts to tokens: character offsets, words, scorable tokens, and the cut of texts that are too long."""

import hashlib
import itertools
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, Tokens
from explainer.scored_text import word_numbers

Truncation = Literal["longest_first", "only_first", "only_second"]


class TextEncoder:
    """A fast tokenizer with a length limit: texts -> EncodedText.

    Raises:
        ValueError: when the tokenizer is not a fast one, and so has no character offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None) -> None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"`tokenizer` {type(tokenizer).__name__} is not a fast tokenizer: explanations need character offsets."
            )
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        # A special token that the user typed is not scored; the unknown token stands for text and is.
        self.special_ids = torch.tensor(
            sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}), dtype=torch.int64
        )

    @property
    def fingerprint(self) -> str:
        """A hash of the tokenizer's whole pipeline: equal means equal tokens."""
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        backend["truncation"] = backend["padding"] = None  # every call sets its own
        return hashlib.sha256(json.dumps(backend, sort_keys=True).encode()).hexdigest()

    def encode(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
        truncation: Truncation = "longest_first",
    ) -> list[EncodedText]:
        """One EncodedText per text, without padding.

        Args:
            truncation: what is cut where a text and its pair are too long, as transformers names it.

        Raises:
            TypeError: when a text is not a string.
            ValueError: when a text has no token at all (empty, and the tokenizer adds no specials), or holds one half
                of a surrogate pair.
        """
        pairs = self._checked(texts, text_pairs)
        return [
            self._encode(i, text, pair, truncation) for i, (text, pair) in enumerate(zip(texts, pairs, strict=True))
        ]

    def encode_framed(
        self,
        frame: Sequence[str | int],
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
        *,
        add_special_tokens: bool = True,
        ends_with_frame: bool = False,
    ) -> list[EncodedText]:
        """Texts inside a fixed frame, tokenized as one string each; the text's own tokens alone are scorable.

        A token across the border belongs to the text. A text that is too long is cut, the frame never.

        Args:
            frame: strings, and the numbers 0 and 1 where the text and the second text stand.
            add_special_tokens: let the tokenizer add what it adds to a text.
            ends_with_frame: drop what the tokenizer adds behind the frame.

        Raises:
            TypeError: when a text is not a string.
            ValueError: when there is no second text, or one too many, or the frame leaves no room for the text.
        """
        pairs = self._checked(texts, text_pairs)
        for i, pair in enumerate(pairs):
            if (pair is None) == (1 in frame):
                raise ValueError(
                    f"`text_pairs[{i}]` is missing, and the prompt has a place for it, `{{text_pair}}`."
                    if pair is None
                    else f"`text_pairs[{i}]` is {pair!r:.60}, and the prompt has no `{{text_pair}}`."
                )
        return [
            self._framed(i, frame, (text, pair), add_special_tokens, ends_with_frame)
            for i, (text, pair) in enumerate(zip(texts, pairs, strict=True))
        ]

    def _framed(
        self, index: int, frame: Sequence[str | int], texts: tuple[str, str | None], specials: bool, ends: bool
    ) -> EncodedText:
        parts = [part if isinstance(part, str) else texts[part] or "" for part in frame]
        ends_at = list(itertools.accumulate(map(len, parts)))
        spans: dict[int | None, tuple[int, int]] = {
            part: (ends_at[i] - len(parts[i]), ends_at[i]) for i, part in enumerate(frame) if isinstance(part, int)
        }
        whole = "".join(parts)
        encoding = self._tokenize(whole, None, truncation=False, add_special_tokens=specials)
        added = encoding["special_tokens_mask"]
        length = len(added) if not ends else max((i + 1 for i, one in enumerate(added) if not one), default=0)
        places = [tuple(map(int, offset)) for offset in encoding["offset_mapping"][:length]]
        owners = [None if added[i] else _owner(place, spans) for i, place in enumerate(places)]
        kept = self._room(
            index,
            [
                None if owner is None or _crosses(whole, place, spans[owner]) else owner
                for owner, place in zip(owners, places, strict=True)
            ],
        )
        if not kept:
            raise ValueError(f"`texts[{index}]` and its prompt have no tokens: the model predicts nothing of them.")
        ids = torch.tensor(encoding["input_ids"])[kept]
        types, words = encoding.get("token_type_ids"), encoding.word_ids(0)
        scorable = torch.tensor([owners[i] is not None for i in kept]) & ~torch.isin(ids, self.special_ids)
        offsets = tuple(_within(places[i], spans.get(owners[i])) for i in kept)
        segments = tuple(1 if owners[i] == 1 else 0 for i in kept)
        return EncodedText(
            text=texts[0],
            text_pair=texts[1],
            tokens=Tokens(ids, None if types is None else torch.tensor(types)[kept]),
            scorable=scorable,
            offsets=offsets,
            words=word_numbers(
                [text for text in texts if text is not None],
                segments,
                offsets,
                scorable.tolist(),
                [words[i] for i in kept],
                splits_unspaced=self.splits_unspaced,
            ),
            segments=segments,
        )

    def _room(self, index: int, owners: list[int | None]) -> list[int]:
        """The tokens that are kept: all of the frame (None), and of the texts (0, 1) as many as the model takes."""
        everything = list(range(len(owners)))
        if self.max_tokens is None or len(owners) <= self.max_tokens:
            return everything
        own = {owner: [i for i in everything if owners[i] == owner] for owner in (0, 1)}
        frame = len(owners) - len(own[0]) - len(own[1])
        if frame >= self.max_tokens:
            raise ValueError(
                f"The prompt has {frame} tokens without its text, and the model takes {self.max_tokens}, the text's "
                "included: shorten the prompt, or give fewer shots."
            )
        self._warn_cut(index, len(owners))
        for _ in range(len(owners) - self.max_tokens):
            longer = max(own.values(), key=len)
            longer.pop(0 if self._cut_end == "first" else -1)
        kept = {*own[0], *own[1]}
        return [i for i in everything if owners[i] is None or i in kept]

    def _checked(self, texts: Any, text_pairs: Any) -> list[str | None]:
        """The second texts, one per text, after all were found to be texts."""
        if isinstance(texts, str):
            raise TypeError("`texts` must be a list of strings, got one string: wrap it in a list.")
        pairs = [None] * len(texts) if text_pairs is None else list(text_pairs)
        if len(pairs) != len(texts):
            raise ValueError(f"`text_pairs` must have one entry per text ({len(texts)}), got {len(pairs)}.")
        for name, values in (("texts", texts), ("text_pairs", pairs)):
            for i, value in enumerate(values):
                if not isinstance(value, str) and not (name == "text_pairs" and value is None):
                    raise TypeError(f"`{name}[{i}]` must be a string, got {type(value).__name__}: {value!r:.60}")
                if value is not None:
                    _check_characters(f"{name}[{i}]", value)
        return pairs

    def _encode(self, index: int, text: str, pair: str | None, truncation: Truncation) -> EncodedText:
        encoding = self._tokenize(text, pair, truncation=False)
        length = len(encoding["input_ids"])
        if self.max_tokens is not None and length > self.max_tokens:
            self._warn_cut(index, length)
            if truncation == "only_second":
                self._check_room(index, text, pair)
            encoding = self._tokenize(text, pair, truncation=truncation)
        if not encoding["input_ids"]:
            raise ValueError(
                f"`texts[{index}]` has no tokens, and this tokenizer adds no special ones: the model predicts nothing "
                "of an empty input. Leave the text out."
            )
        input_ids = torch.tensor(encoding["input_ids"])
        special = torch.tensor(encoding["special_tokens_mask"]).bool() | torch.isin(input_ids, self.special_ids)
        types = encoding.get("token_type_ids")
        offsets = tuple((int(start), int(end)) for start, end in encoding["offset_mapping"])
        segments = tuple(1 if segment == 1 else 0 for segment in encoding.sequence_ids(0))
        return EncodedText(
            text=text,
            text_pair=pair,
            tokens=Tokens(input_ids, None if types is None else torch.tensor(types)),
            scorable=~special,
            offsets=offsets,
            words=word_numbers(
                [text] if pair is None else [text, pair],
                segments,
                offsets,
                (~special).tolist(),
                encoding.word_ids(0),
                splits_unspaced=self.splits_unspaced,
            ),
            segments=segments,
        )

    def _check_room(self, index: int, text: str, pair: str | None) -> None:
        """Refuse a text that leaves its pair no token."""
        assert self.max_tokens is not None
        if len(self._tokenize(text, "", truncation=False)["input_ids"]) >= self.max_tokens:
            raise ValueError(
                f"`texts[{index}]` has as many tokens as the model takes, {self.max_tokens}, and leaves no room for "
                "its second text: shorten it."
            )

    @cached_property
    def splits_unspaced(self) -> bool:
        """Whether the tokenizer makes several words of Chinese, which is written without spaces."""
        return len(set(self._tokenize("我喜", None, truncation=False).word_ids(0)) - {None}) > 1

    def _warn_cut(self, index: int, length: int) -> None:
        assert self.max_tokens is not None
        warnings.warn(
            f"Text {index} has {length} tokens, the model takes {self.max_tokens}: the {self._cut_end} "
            f"{length - self.max_tokens} tokens of the text are not read and get no score.",
            stacklevel=5,
        )

    @property
    def _cut_end(self) -> str:
        return "first" if self.tokenizer.truncation_side == "left" else "last"

    def _tokenize(
        self, text: str, pair: str | None, truncation: Truncation | bool, add_special_tokens: bool = True
    ) -> BatchEncoding:
        return self.tokenizer(
            text,
            pair,
            add_special_tokens=add_special_tokens,
            truncation=truncation,
            max_length=self.max_tokens if truncation else None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )


def _owner(token: tuple[int, ...], spans: dict[int | None, tuple[int, int]]) -> int | None:
    """The text that has a character of this token; a token without characters is of the text that it is inside of."""
    start, end = token
    for owner, (first, last) in spans.items():
        if max(start, first) < min(end, last) or (start == end and first < start < last):
            return owner
    return None


def _crosses(whole: str, token: tuple[int, ...], span: tuple[int, int]) -> bool:
    """Whether a text's token has characters of the frame too, other than the space that words begin with."""
    return bool((whole[token[0] : span[0]] + whole[span[1] : token[1]]).strip(" "))


def _within(token: tuple[int, ...], span: tuple[int, int] | None) -> tuple[int, int]:
    """The token's characters counted in its text; none where it is of no text."""
    if span is None:
        return 0, 0
    return max(token[0], span[0]) - span[0], min(token[1], span[1]) - span[0]


def _check_characters(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at {error.start}"
        raise ValueError(f"`{name}` has one half of a surrogate pair, {half}, which is no character.") from error
