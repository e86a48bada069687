"""Tiny tokenizers of transformers' own classes, trained on a few sentences of this file: nothing is loaded.

Each class brings its own normaliser, pre-tokenizer, special tokens and way of counting offsets; only the vocabulary is
ours.
"""

import json
import string
from functools import cache
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    DebertaV2Tokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

WORDS = "the a film movie plot was is good bad great awful not very really fun dull and but of it this one so nothing"
SENTENCES = [WORDS, *WORDS.split()] * 40 + [f"{WORDS.title()}. films goodly, dulling! awfulful", *string.printable]


@cache
def _bytes() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Pieces and merges of a byte-level BPE."""
    return _trained(
        models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet(), ()
    )


@cache
def _sentence_pieces(*specials: str, prefix: Any = "always") -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Pieces and merges of a BPE on SentencePiece's marks of white space, with a piece for every byte."""
    every_byte = tuple(f"<0x{byte:02X}>" for byte in range(256))
    split = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    return _trained(models.BPE(), split, [], (*specials, *every_byte))


def _trained(model: Any, split: Any, alphabet: list[str], specials: tuple[str, ...]) -> Any:
    backend = Tokenizer(model)
    backend.pre_tokenizer = split
    backend.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=alphabet, special_tokens=list(specials), show_progress=False
        ),
    )
    made = json.loads(backend.to_str())["model"]
    return made["vocab"], tuple(tuple(merge) for merge in made["merges"])


def _unigram(*specials: str) -> list[tuple[str, float]]:
    """Pieces of a unigram model: the words, then letters and signs, which cost more."""
    pieces = [(f"▁{word}", -4.0) for word in WORDS.split()]
    letters = [(sign, -8.0) for sign in ("▁", *string.ascii_letters, *string.digits, *string.punctuation)]
    return [*((special, 0.0) for special in specials), *pieces, *letters]


def _with(vocabulary: dict[str, int], *specials: str) -> dict[str, int]:
    return vocabulary | {special: len(vocabulary) + i for i, special in enumerate(specials)}


def _gpt2() -> PreTrainedTokenizerFast:
    pieces, merges = _bytes()
    return GPT2Tokenizer(vocab=_with(pieces, "<|endoftext|>"), merges=list(merges), model_max_length=40)


def _qwen2() -> PreTrainedTokenizerFast:
    pieces, merges = _bytes()
    return Qwen2Tokenizer(vocab=_with(pieces, "<|endoftext|>"), merges=list(merges), model_max_length=40)


def _roberta() -> PreTrainedTokenizerFast:
    pieces, merges = _bytes()
    first = {special: i for i, special in enumerate(("<s>", "<pad>", "</s>", "<unk>"))}
    shifted = {piece: i + len(first) for piece, i in pieces.items()}
    return RobertaTokenizer(vocab=_with(first | shifted, "<mask>"), merges=list(merges), model_max_length=40)


def _beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer with its first token put before each text, as the files of published models have it."""
    first = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first}:1 $B:1", special_tokens=[(first, tokenizer.bos_token_id)]
    )
    return tokenizer


def _llama() -> PreTrainedTokenizerFast:
    pieces, merges = _sentence_pieces("<unk>", "<s>", "</s>", "<pad>")
    return _beginning(LlamaTokenizer(vocab=pieces, merges=list(merges), pad_token="<pad>", model_max_length=40))


def _gemma() -> PreTrainedTokenizerFast:
    pieces, merges = _sentence_pieces("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", prefix="never")
    return _beginning(GemmaTokenizer(vocab=pieces, merges=list(merges), model_max_length=40))


def _t5() -> PreTrainedTokenizerFast:
    return T5Tokenizer(vocab=_unigram("<pad>", "</s>", "<unk>"), extra_ids=0, model_max_length=40)


def _xlm_roberta() -> PreTrainedTokenizerFast:
    pieces = [*_unigram("<s>", "<pad>", "</s>", "<unk>"), ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=pieces, model_max_length=40)


def _deberta_v2() -> PreTrainedTokenizerFast:
    pieces = [*_unigram("[PAD]", "[CLS]", "[SEP]", "[UNK]"), ("[MASK]", 0.0)]
    return DebertaV2Tokenizer(vocab=pieces, model_max_length=40)


REAL = {
    "gpt2": _gpt2,
    "qwen2": _qwen2,
    "roberta": _roberta,
    "llama": _llama,
    "gemma": _gemma,
    "t5": _t5,
    "xlm_roberta": _xlm_roberta,
    "deberta_v2": _deberta_v2,
}
"""A fresh tokenizer of each class, right-padding as the explained model does it."""


def real_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of its own, which a test may change."""
    tokenizer = REAL[kind]()
    tokenizer.padding_side = "right"
    return tokenizer
