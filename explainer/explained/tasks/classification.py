"""Sequence classification and regression: one logit per label, read where the model pools the text."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from explainer.explained.batch import TokenBatch
from explainer.explained.readout import Link, Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.labels import label_names

Pooling = Literal["first", "last", "mean", "unknown"]

PROBLEM_TYPES: dict[str, Link] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "identity",
}


@dataclass(frozen=True)
class TextClassification(AbstractTask):
    """A `...ForSequenceClassification` model.

    Args:
        names: of the labels, in the order of their indices.
        link: `softmax` (one label of several), `sigmoid` (every label by itself) or `identity` (values: a regression).
        pooling: the position that the head reads: the first token, the last one, or the mean of all.
        passed_over: the token that is never read as the last one: the padding, wherever it stands.
        decoder_reads_text: whether this is an encoder-decoder, whose decoder reads the text a second time.
    """

    name: ClassVar[str] = "text-classification"
    auto_model: ClassVar[Any] = AutoModelForSequenceClassification
    head: ClassVar[str] = "ForSequenceClassification"
    names: tuple[str, ...]
    link: Link = "softmax"
    pooling: Pooling = "first"
    passed_over: int | None = None
    decoder_reads_text: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel, link: Link | None = None) -> "TextClassification":
        """The task of a loaded classifier, by its configuration.

        Args:
            link: instead of the one that the configuration's `problem_type` names. Without either, a model with one
                output is a regression, as transformers trains it.

        Raises:
            ValueError: when the configuration names an unknown `problem_type`.
        """
        config = model.config
        last = hasattr(model, "score") or config.is_encoder_decoder
        mean = getattr(config, "classifier_pooling", "cls") == "mean"
        return cls(
            names=label_names(config),
            link=link or _link(config),
            pooling="mean" if mean else "last" if last else "first",
            decoder_reads_text=bool(config.is_encoder_decoder),
        )

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "pooling": self.pooling}

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        return Readout(precise(output.logits)[:, None], self.link)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        mask = batch.attention_mask.float()
        if self.pooling == "mean":
            return mask / mask.sum(dim=1, keepdim=True)
        if self.pooling == "unknown":
            raise ValueError(
                "This classifier reads its answer neither at the first token, nor at the last, nor as the mean of all, "
                "so attention cannot be followed to it. Use a method of gradients or perturbations, such as `sig`."
            )
        if self.pooling == "last" and self.passed_over is not None:
            mask = mask * (batch.input_ids != self.passed_over)
        first = self.pooling == "first"
        at = mask.argmax(dim=1) if first else mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return F.one_hot(at, mask.shape[1]).float()


def _link(config: Any) -> Link:
    if config.problem_type is None:
        return "identity" if config.num_labels == 1 else "softmax"
    if config.problem_type not in PROBLEM_TYPES:
        raise ValueError(
            f"`problem_type` of the model's configuration must be one of {', '.join(PROBLEM_TYPES)}, got "
            f"{config.problem_type!r}."
        )
    return PROBLEM_TYPES[config.problem_type]
