"""A small encoder that is trained from nothing: its vocabulary is the words of a generated data set."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from explainer.data.catalog import load
from explainer.explained.tasks.labels import named_labels

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def small_model(
    words_of: str, labels: Sequence[str], auto_model: Any, model_type: str = "bert", **sizes: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An untrained encoder with a head, and a tokenizer whose tokens are words.

    Args:
        words_of: a data set of the catalog; the words of its training texts are the vocabulary.
        labels: of the head; none where its choices are positions.
        auto_model: transformers' loader of a model with such a head.
        model_type: the family, as transformers names it.
        sizes: entries of the configuration, such as `hidden_size`.
    """
    tokenizer = tokenizer_of_words(_texts(words_of))
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    ids |= {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
    config = AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **ids, **named_labels(labels), **sizes)
    return auto_model.from_config(config), tokenizer


def tokenizer_of_words(texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer of BERT's form that knows the words and signs of these texts, in lower case, and no pieces."""
    normalizer, split = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    found = {word for text in texts for word, _ in split.pre_tokenize_str(normalizer.normalize_str(text))}
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *sorted(found)])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, split
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    pad, unk, cls, sep, mask = SPECIALS
    names = {"pad_token": pad, "unk_token": unk, "cls_token": cls, "sep_token": sep, "mask_token": mask}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, model_input_names=inputs, **names)


def _texts(name: str) -> list[str]:
    rows = load(name)["train"]
    pairs = rows["text_pair"][:] if "text_pair" in rows.column_names else []
    return [*rows["text"][:], *pairs]
