"""The heads that a training can put on a base: the gold choice of every question, and where the logits of each are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from peft import TaskType
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from explainer.explained import EncodedText, QuestionAnswering, TextClassification, TokenClassification
from explainer.explained.batch import TokenBatch
from explainer.explained.tasks.token_classification import OUTSIDE, first_tokens
from explainer.explained.text import TextEncoder
from lightning_modules.data.text import TextExamples

UNASKED = -100
"""In place of a gold choice: a padded or untagged position. Cross-entropy leaves it out."""

Gold = Int64[Tensor, "batch questions"]


def check_labels(labels: list[str]) -> None:
    """Refuse names that are no classes.

    Raises:
        ValueError: when there are fewer than two, or two are the same.
    """
    if len(set(labels)) < max(len(labels), 2):
        raise ValueError(f"`labels` must name at least two classes, each once, got {labels}.")


class AbstractHead(ABC):
    """What a fine-tuned model answers.

    Args:
        labels: their names.

    Attributes:
        auto_model: transformers' loader of a base with this head.
        task_type: the head as PEFT calls it.
    """

    auto_model: ClassVar[Any]
    task_type: ClassVar[TaskType]

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        check_labels(self.labels)

    def encode(self, encoder: TextEncoder, examples: TextExamples) -> list[EncodedText]:
        return encoder.encode(examples.texts, examples.text_pairs)

    @abstractmethod
    def gold(self, texts: Sequence[EncodedText], labels: Sequence[Any]) -> Gold:
        """The index of the right choice of each question; `UNASKED` where a text has no such question.

        Args:
            labels: of the texts, as the data has them.

        Raises:
            ValueError: when a label is none.
        """

    @abstractmethod
    def logits(self, output: Any, batch: TokenBatch) -> Float[Tensor, "batch questions choices"]:
        """Of every choice, from the model's output."""


class ClassificationHead(AbstractHead):
    """One of the labels per text; the data has their names, or their numbers from 0."""

    auto_model = AutoModelForSequenceClassification
    task_type = TaskType.SEQ_CLS

    def gold(self, texts: Sequence[EncodedText], labels: Sequence[Any]) -> Gold:
        index: dict[Any, int] = {number: number for number in range(len(self.labels))}
        index |= {name: i for i, name in enumerate(self.labels)}
        for label in labels:
            if not isinstance(label, int | float | str) or label not in index:
                raise ValueError(
                    f"`labels` must name every label of the data, got {self.labels}, and the data has {label!r}. The "
                    "labels' column is `--data.label`."
                )
        return torch.tensor([[index[label]] for label in labels])

    def logits(self, output: Any, batch: TokenBatch) -> Float[Tensor, "batch questions choices"]:
        return output.logits[:, None]


class TaggingHead(AbstractHead):
    """One of the tags per word, read at the word's first token.

    The data has the entities of each text, `{start, end, label}`, whose label is a tag, or is one with B- and I-.
    """

    auto_model = TokenClassification.auto_model
    task_type = TaskType.TOKEN_CLS

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        if OUTSIDE not in self.labels:
            raise ValueError(
                f"`labels` must have {OUTSIDE!r}, the tag of words outside all entities, got {self.labels}."
            )
        self.task = TokenClassification(tuple(self.labels))

    def gold(self, texts: Sequence[EncodedText], labels: Sequence[Any]) -> Gold:
        gold = torch.full((len(texts), max(map(len, texts))), UNASKED)
        for row, text, entities in zip(gold, texts, labels, strict=True):
            words = first_tokens(text)
            row[words] = self.labels.index(OUTSIDE)
            for entity in entities or ():
                self._write(row, text, words, entity)
        return gold

    def _write(self, row: Tensor, text: EncodedText, words: list[int], entity: Any) -> None:
        if not isinstance(entity, Mapping) or not {"start", "end", "label"} <= set(entity):
            raise ValueError(
                f"An entity must have `start`, `end` and `label`, got {entity!r:.80} in {text.text!r:.60}."
            )
        kind = entity["label"]
        inside = set(self.task.tokens_of(text, (entity["start"], entity["end"])))
        for place, word in enumerate(word for word in words if word in inside):
            names = [f"{'I' if place else 'B'}-{kind}", kind]
            tag = next((name for name in names if name in self.labels), None)
            if tag is None:
                raise ValueError(
                    f"`labels` must have {names[0]!r} or {kind!r}, a label of the data; got {self.labels}."
                )
            row[word] = self.labels.index(tag)

    def logits(self, output: Any, batch: TokenBatch) -> Float[Tensor, "batch questions choices"]:
        return output.logits


class AnsweringHead(AbstractHead):
    """The first and the last token of an answer in the context; the data has its [start, end] characters."""

    auto_model = QuestionAnswering.auto_model
    task_type = TaskType.QUESTION_ANS

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = []  # the choices are positions
        self.task = QuestionAnswering()

    def encode(self, encoder: TextEncoder, examples: TextExamples) -> list[EncodedText]:
        return self.task.encode(encoder, examples.texts, examples.text_pairs)

    def gold(self, texts: Sequence[EncodedText], labels: Sequence[Any]) -> Gold:
        found = [self.task.tokens_of(text, label) for text, label in zip(texts, labels, strict=True)]
        return torch.tensor([[tokens[0], tokens[-1]] for tokens in found])

    def logits(self, output: Any, batch: TokenBatch) -> Float[Tensor, "batch questions choices"]:
        both = torch.stack([output.start_logits, output.end_logits], dim=1)
        return both.masked_fill(~batch.attention_mask.bool()[:, None], torch.finfo(both.dtype).min)


HEADS: dict[str, type[AbstractHead]] = {
    TextClassification.name: ClassificationHead,
    TokenClassification.name: TaggingHead,
    QuestionAnswering.name: AnsweringHead,
}
"""The heads by the names of their tasks."""
