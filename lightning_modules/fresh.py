"""Train a small model from nothing, to be explained: a classifier, or a language model that answers with one word."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from explainer.data.planted_words import VOCABULARY
from explainer.explained import PromptedClassification
from explainer.explained.batch import collate
from explainer.explained.conventions import configured_limit
from explainer.explained.passes import model_inputs
from explainer.explained.tasks.labels import named_labels
from explainer.explained.text import TextEncoder
from lightning_modules.answering import AbstractAnswering, family_of
from lightning_modules.data.text import TextExamples
from lightning_modules.heads import Gold

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
OF_ENCODERS = {"cls_token": "<s>", "mask_token": "<mask>"}


class FreshTraining(AbstractAnswering):
    """A fresh model that learns the data's labels; accuracy on validation and test texts.

    Its tokens are words. With `labels` it is a classifier of texts or pairs. With a `prompt` it is a language model,
    which learns to answer by the label's word, one of its whole vocabulary: an encoder-decoder (T5) at the first
    position of its decoder, a causal model after the prompt.

    Args:
        architecture: `model_type`, as transformers names it, and the sizes of its configuration.
        labels: of a classifier; the data's labels are these.
        prompt: template and labels of a language model, as of a prompted classification; the data's labels are these.
        words: texts whose words are the vocabulary, besides what the prompt is written with; by default those of the
            generated data sets.
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    def __init__(
        self,
        architecture: dict[str, Any],
        labels: list[str] | None = None,
        prompt: dict | None = None,  # type: ignore[type-arg] # jsonargparse would read strings of `Any` as YAML
        words: list[str] | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        if (labels is None) == (prompt is None):
            raise ValueError("Give `labels` (of a classifier) or a `prompt` (of a language model), and not both.")
        family, sizes = family_of(architecture)
        task = None if prompt is None else PromptedClassification.of(prompt)
        if task is not None and (task.prompt["template"] is None or task.wants_pair):
            raise ValueError("`prompt` must have a `template` with `{text}` alone: a fresh model has no chat template.")
        seq2seq = family().is_encoder_decoder
        known = list(VOCABULARY if words is None else words)
        if task is not None:
            known += [task.prompt["template"].replace("{text}", " "), *task.prompt["labels"].values()]
        self.tokenizer = word_tokenizer(known, pairs=task is None, ends=seq2seq)
        ids = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None, "vocab_size": len(self.tokenizer)}
        ids |= {"decoder_start_token_id": 0} if seq2seq else {}
        config = family(**{**ids, **named_labels(labels or ()), **sizes})
        auto = AutoModelForSequenceClassification if task is None else task.auto_model_of(config.to_dict())
        self.model = auto.from_config(config)
        self.task = None if task is None else task.bound(self.model, self.tokenizer)
        self.text = TextEncoder(self.tokenizer, configured_limit(self.model, self.tokenizer))

    @property
    def choices(self) -> dict[Any, int]:
        """The index of each label among the model's outputs."""
        if self.task is not None:
            return dict(zip(self.task.labels, self.task.ids, strict=True))
        return {label: i for i, label in enumerate(cast(list[str], self.hparams["labels"]))}

    def forward(self, examples: TextExamples) -> Float[Tensor, "batch outputs"]:
        """The logits: of every label, or of every word in the answer's place."""
        given = examples.texts, examples.text_pairs
        texts = self.text.encode(*given) if self.task is None else self.task.encode(self.text, *given)
        batch = collate([text.tokens for text in texts], pad_token_id=0).to(self.device)
        inputs = model_inputs(self.model, batch, positions=False)
        if self.task is None:
            return self.model(**inputs).logits
        with self.task.reading(self.model, batch):
            return self.model(**inputs, **self.task.inputs(batch)).logits[:, 0]

    def _answers(self, examples: TextExamples) -> tuple[Float[Tensor, "batch 1 outputs"], Gold]:
        choices = self.choices
        if unknown := [label for label in examples.labels if label not in choices]:
            raise ValueError(f"The labels must be those of the data, which has {unknown[0]!r}; got {list(choices)}.")
        right = torch.tensor([[choices[label]] for label in examples.labels], device=self.device)
        return self(examples)[:, None], right

    def export(self, folder: Path) -> None:
        """Write the model and its tokenizer: a folder that `--model` can name."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def word_tokenizer(texts: Sequence[str], pairs: bool, ends: bool) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words and signs of these texts.

    Args:
        pairs: whether it reads texts and pairs as an encoder does, between special tokens.
        ends: whether a text gets an end token.
    """
    splitter = pre_tokenizers.BertPreTokenizer()  # at white space, and around each sign
    found = (piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
    named = {**SPECIAL, **(OF_ENCODERS if pairs else {})}
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*named.values(), *found]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    used = [(token, vocabulary[token]) for token in named.values()]
    if pairs:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=used
        )
        named["sep_token"] = "</s>"
    elif ends:
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=used)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if pairs else [])]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, padding_side="right", **named)
