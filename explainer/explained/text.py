"""Texts to tokens: character offsets, words, scorable tokens, and the cut of texts that are too long."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import cached_property

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, Tokens
from explainer.scored_text import word_numbers


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

    def encode(self, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None) -> list[EncodedText]:
        """One EncodedText per text, without padding.

        Raises:
            TypeError: when a text is not a string.
            ValueError: when a text has no token at all (empty, and the tokenizer adds no specials), or holds one half
                of a surrogate pair.
        """
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
        return [self._encode(i, text, pair) for i, (text, pair) in enumerate(zip(texts, pairs, strict=True))]

    def _encode(self, index: int, text: str, pair: str | None) -> EncodedText:
        encoding = self._tokenize(text, pair, truncation=False)
        length = len(encoding["input_ids"])
        if self.max_tokens is not None and length > self.max_tokens:
            warnings.warn(
                f"Text {index} has {length} tokens, the model takes {self.max_tokens}: the {self._cut_end} "
                f"{length - self.max_tokens} tokens of the text are not read and get no score.",
                stacklevel=4,
            )
            encoding = self._tokenize(text, pair, truncation=True)
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
                splits_unspaced=self._splits_unspaced,
            ),
            segments=segments,
        )

    @cached_property
    def _splits_unspaced(self) -> bool:
        """Whether the tokenizer makes several words of Chinese, which is written without spaces."""
        return len(set(self._tokenize("我喜", None, truncation=False).word_ids(0)) - {None}) > 1

    @property
    def _cut_end(self) -> str:
        return "first" if self.tokenizer.truncation_side == "left" else "last"

    def _tokenize(self, text: str, pair: str | None, truncation: bool) -> BatchEncoding:
        return self.tokenizer(
            text,
            pair,
            truncation=truncation,
            max_length=self.max_tokens if truncation else None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )


def _check_characters(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at {error.start}"
        raise ValueError(f"`{name}` has one half of a surrogate pair, {half}, which is no character.") from error
