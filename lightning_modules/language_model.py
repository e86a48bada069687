"""Train a small language model from nothing to answer prompts with one word: a model to explain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from explainer.data.planted_words import VOCABULARY
from explainer.explained import PromptedClassification
from explainer.explained.batch import collate
from explainer.explained.conventions import configured_limit
from explainer.explained.passes import model_inputs
from explainer.explained.text import TextEncoder
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples

SPECIAL = ("<pad>", "<unk>", "</s>")
"""Padding, words that the model has not, and the end of a text; an encoder-decoder answers after the padding."""


class LanguageModelTraining(TrainingModule):
    """A fresh language model that learns to continue a prompt with the label's word; accuracy over its vocabulary.

    Its words are the tokens. An encoder-decoder (T5) answers at the first position of its decoder, a causal model after
    the prompt.

    Args:
        architecture: `model_type`, as transformers names it, and the sizes of its configuration.
        prompt: template and labels, as of a prompted classification; the data's labels are these labels.
        words: the vocabulary, besides what the template and the labels are written with; by default that of the
            generated data sets.
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    best_by = "validation/accuracy"

    def __init__(
        self,
        architecture: dict[str, Any],
        prompt: dict,  # type: ignore[type-arg] # jsonargparse would read strings of `Any` as YAML
        words: list[str] | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        sizes = dict(architecture)
        kind = sizes.pop("model_type", None)
        if kind not in CONFIG_MAPPING:
            raise ValueError(f"`architecture` must name a `model_type` of transformers, got {kind!r}.")
        task = PromptedClassification.of(prompt)
        if task.prompt["template"] is None or task.wants_pair:
            raise ValueError("`prompt` must have a `template` with `{text}` alone: a fresh model has no chat template.")
        written = [task.prompt["template"].replace("{text}", " "), *task.prompt["labels"].values()]
        seq2seq = CONFIG_MAPPING[kind]().is_encoder_decoder
        self.tokenizer = word_tokenizer([*(VOCABULARY if words is None else words), *written], ends=seq2seq)
        ids = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
        ids |= {"decoder_start_token_id": 0} if seq2seq else {}
        config = CONFIG_MAPPING[kind](**{**ids, **sizes, "vocab_size": len(self.tokenizer)})
        self.model = task.auto_model_of(config.to_dict()).from_config(config)
        self.task = task.bound(self.model, self.tokenizer)
        self.text = TextEncoder(self.tokenizer, configured_limit(self.model, self.tokenizer))
        self.validation_accuracy, self.test_accuracy = MeanMetric(), MeanMetric()

    def forward(self, examples: TextExamples) -> Float[Tensor, "batch vocabulary"]:
        """The logits of every word in the answer's place."""
        texts = self.task.encode(self.text, examples.texts)
        batch = collate([text.tokens for text in texts], pad_token_id=0).to(self.device)
        with self.task.reading(self.model, batch):
            output = self.model(**model_inputs(self.model, batch, positions=False), **self.task.inputs(batch))
        return output.logits[:, 0]

    def _answers(self, labels: Sequence[Any]) -> Int64[Tensor, " batch"]:
        """The word of each label.

        Raises:
            ValueError: when the prompt has no such label.
        """
        if unknown := [label for label in labels if label not in self.task.labels]:
            raise ValueError(f"`prompt` must have the label {unknown[0]!r} of the data, got {self.task.labels}.")
        words: Mapping[str, int] = dict(zip(self.task.labels, self.task.ids, strict=True))
        return torch.tensor([words[label] for label in labels], device=self.device)

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(examples).float(), self._answers(examples.labels)) * self.share(len(examples))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples), sync_dist=True)
        return loss

    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.validation_accuracy((self(examples).argmax(dim=-1) == self._answers(examples.labels)).float())
        self.log("validation/accuracy", self.validation_accuracy, prog_bar=True, batch_size=len(examples))

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.test_accuracy((self(examples).argmax(dim=-1) == self._answers(examples.labels)).float())
        self.log("test/accuracy", self.test_accuracy, batch_size=len(examples))

    def predict_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        return self(examples).softmax(dim=-1)

    def export(self, folder: Path) -> None:
        """Write the model and its tokenizer: a folder that `--model` can name."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def word_tokenizer(texts: Sequence[str], ends: bool) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words and signs of these texts.

    Args:
        ends: whether a text gets an end token.
    """
    splitter = pre_tokenizers.BertPreTokenizer()  # at white space, and around each sign
    found = (piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *found]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    if ends:
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    specials = dict(zip(("pad_token", "unk_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], padding_side="right", **specials
    )
