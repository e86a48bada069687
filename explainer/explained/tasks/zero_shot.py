"""Zero-shot classification by entailment: does the text entail a sentence about each label?

Yin, Hay and Roth, Benchmarking Zero-shot Text Classification, EMNLP 2019, as transformers' pipeline has it. A model for
natural language inference reads a pair for each label: the text is the premise, the template with the label in its
place the hypothesis. With e_l and c_l the logits of entailment and contradiction of label l's pair:

    one label of several    p_l = exp(e_l) / sum over k of exp(e_k)
    several labels at once  p_l = exp(e_l) / (exp(e_l) + exp(c_l))

So the logit of a label is e_l, or e_l - c_l, and comes from the pair of that label alone. Only the text is scored and
perturbed; the hypotheses stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.readout import Link, Readout, Target, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.classification import TextClassification
from explainer.explained.tasks.labels import label_names
from explainer.explained.text import TextEncoder

TEMPLATE = "This example is {}."
"""The hypothesis of transformers' pipeline."""

Tail = tuple[tuple[int, ...], tuple[int, ...] | None]
"""Ids and token types of a hypothesis and what ends it, as they follow the text."""


@dataclass(frozen=True)
class ZeroShotClassification(AbstractTask):
    """A model for natural language inference that is asked for labels; made by `ZeroShotClassification.of(labels)`.

    The tokens of a text are those that stand before the hypothesis. The model reads them once for each label that is
    asked for, with that label's hypothesis behind them.

    Args:
        names: the labels.
        hypothesis_template: a sentence with `{}` in the label's place.
        link: `softmax` (one label of several) or `sigmoid` (every label by itself).
        pair: the model's own task, a classification of pairs.
        entailment: the index of that class in it.
        contradiction: the index of that class; None where it is not read.
        tails: of the labels.
        padding: the id of the padding token.
        decoder_reads_text: whether this is an encoder-decoder, whose decoder reads the pair a second time.
    """

    name: ClassVar[str] = "zero-shot-classification"
    auto_model: ClassVar[Any] = AutoModelForSequenceClassification
    names: tuple[str, ...]
    hypothesis_template: str = TEMPLATE
    link: Link = "softmax"
    pair: TextClassification | None = None
    entailment: int = -1
    contradiction: int | None = None
    tails: tuple[Tail, ...] = ()
    padding: int = 0
    decoder_reads_text: bool = False

    @classmethod
    def of(
        cls, labels: Sequence[str], hypothesis_template: str = TEMPLATE, multi_label: bool = False
    ) -> "ZeroShotClassification":
        """The task of these labels.

        Args:
            labels: two or more; with `multi_label` one is enough.
            hypothesis_template: a sentence with `{}` in the label's place.
            multi_label: whether several labels may hold at once: each gets a probability of its own.

        Raises:
            ValueError: when labels are missing, empty or equal, or the template has no place for them.
        """
        if isinstance(labels, str) or not all(isinstance(label, str) and label.strip() for label in labels):
            raise ValueError(f"`labels` must be a list of strings that are not empty, got {labels!r:.120}.")
        if len(labels) < (1 if multi_label else 2):
            raise ValueError(
                f"`labels` must be two or more, got {list(labels)!r:.120}: the probability of the only one would be 1. "
                "Name the alternatives, or give `multi_label`, by which a label is compared with its contradiction."
            )
        if same := [label for i, label in enumerate(labels) if label in labels[:i]]:
            raise ValueError(f"`labels` has {same[0]!r} twice.")
        task = cls(tuple(labels), hypothesis_template, "sigmoid" if multi_label else "softmax")
        if not isinstance(hypothesis_template, str) or task.hypothesis(labels[0]) == hypothesis_template:
            raise ValueError(f"`hypothesis_template` must have the label's place, `{{}}`, got {hypothesis_template!r}.")
        return task

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "ZeroShotClassification":
        """The task of the `settings` that an export holds.

        Raises:
            ValueError: when they are of no such task.
        """
        link, labels = settings.get("link"), settings.get("labels")
        if link not in ("softmax", "sigmoid") or not isinstance(labels, list):
            raise ValueError(f"The task's `link` or `labels` are broken: {dict(settings)!r:.200}.")
        return cls.of(labels, settings.get("hypothesis_template"), link == "sigmoid")  # type: ignore[arg-type]

    def hypothesis(self, label: str) -> str:
        """The template with the label in its place.

        Raises:
            ValueError: when it is no template.
        """
        try:
            return str(self.hypothesis_template.format(label))
        except (IndexError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"`hypothesis_template` must be a string with one place, `{{}}` (a brace of its own is written twice), "
                f"got {self.hypothesis_template!r}."
            ) from error

    @property
    def labels(self) -> list[str]:
        return list(self.names)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "hypothesis_template": self.hypothesis_template}

    # At a model

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "ZeroShotClassification":
        names = label_names(model.config)
        entailment = _class_of("entail", names)
        contradiction = _class_of("contra", names)
        if entailment is None:
            raise ValueError(
                f"`model` {type(model).__name__} has no label that begins with 'entail': its labels are {list(names)}. "
                "Zero-shot classification needs a model for natural language inference (NLI)."
            )
        if contradiction is None and len(names) == 2:
            contradiction = 1 - entailment  # of entailment and its opposite
        if contradiction is None and self.link == "sigmoid":
            raise ValueError(
                f"`multi_label` compares entailment with contradiction, and `model` {type(model).__name__} has no such "
                f"label: its labels are {list(names)}."
            )
        tails = tuple(_tail(tokenizer, self.hypothesis(label)) for label in self.names)
        for i, tail in enumerate(tails):
            if tail in tails[:i]:
                other = self.names[tails.index(tail)]
                raise ValueError(
                    f"`labels`: the hypotheses of {other!r} and {self.names[i]!r} are the same tokens, "
                    f"{tokenizer.convert_ids_to_tokens(list(tail[0]))}: this model cannot tell them apart."
                )
        pair = TextClassification.of(model, link="softmax")
        return replace(
            self,
            pair=pair,
            entailment=entailment,
            contradiction=contradiction if self.link == "sigmoid" else None,
            tails=tails,
            padding=int(tokenizer.pad_token_id),
            decoder_reads_text=pair.decoder_reads_text,
        )

    @property
    def probed(self) -> AbstractTask:
        assert self.pair is not None
        return self.pair

    def settled(self, probed: AbstractTask, pads: bool) -> "ZeroShotClassification":
        assert isinstance(probed, TextClassification)
        if not pads and len({len(ids) for ids, _ in self.tails}) > 1:
            raise ValueError(
                "Padding changes what this model answers, and the hypotheses have different lengths "
                f"({[len(ids) for ids, _ in self.tails]} tokens), so that they cannot be compared: take another model."
            )
        return replace(self, pair=probed)

    # Texts

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        """The tokens before the hypothesis; a text that leaves no room for the longest one is cut.

        Raises:
            ValueError: when there are second texts, or no room for a text.
        """
        for i, pair in enumerate(text_pairs or ()):
            if pair is not None:
                raise ValueError(
                    f"`text_pairs[{i}]` is {pair!r:.60}, and in zero-shot classification the second text is the "
                    "hypothesis of each label: leave it out."
                )
        first = len(self.tails[0][0])
        limit = encoder.max_tokens
        if limit is not None:
            limit += first - max(len(ids) for ids, _ in self.tails)
            if limit <= first + 2:
                raise ValueError(
                    f"`labels`: the longest hypothesis leaves no room for a text, the model takes {encoder.max_tokens} "
                    "tokens."
                )
        whole = TextEncoder(encoder.tokenizer, limit)
        hypothesis = self.hypothesis(self.names[0])
        pairs = whole.encode(texts, [hypothesis] * len(texts), truncation="only_first")
        return [_before(pair, len(pair) - first) for pair in pairs]

    # Passes

    def cost(self, tokens: Tokens) -> int:
        return sum(len(tokens) + len(ids) for ids, _ in self.tails)

    def rows(self, batch: TokenBatch, target: Target | None = None) -> TokenBatch:
        """Each text with the hypothesis of each label that the target asks for: those of a text stand together."""
        return self.sequences(batch, self.labels_asked(batch, target))

    def labels_asked(self, batch: TokenBatch, target: Target | None) -> Int64[Tensor, "batch asked"]:
        """The labels that the target's number depends on; without a target, all."""
        if target is None or (target.score != "logit" and self.link == "softmax"):
            return torch.arange(len(self.names), device=batch.device).expand(len(batch), -1)
        parts = [target.choices] if target.foil is None else [target.choices, target.foil]
        return torch.cat(parts, dim=1).to(batch.device)

    def sequences(self, batch: TokenBatch, labels: Int64[Tensor, "batch asked"]) -> TokenBatch:
        """Right-padded texts with the hypotheses of these labels behind them."""
        lengths = torch.tensor([len(ids) for ids, _ in self.tails], device=batch.device)
        longest = int(lengths.max())
        k = labels.shape[1]
        place = torch.arange(batch.input_ids.shape[1] + longest, device=batch.device)
        # The place within the hypothesis, which follows the last token of the text.
        place = (place - batch.attention_mask.sum(dim=1, keepdim=True)).repeat_interleave(k, dim=0)
        behind = (place >= 0) & (place < lengths[labels.flatten()][:, None])

        def joined(values: Tensor, tails: Sequence[Sequence[int]], padding: int) -> Tensor:
            table = torch.tensor([[*tail, *[padding] * (longest - len(tail))] for tail in tails], device=batch.device)
            own = F.pad(values, (0, longest), value=padding).repeat_interleave(k, dim=0)
            return torch.where(behind, table[labels.flatten()].gather(1, place.clamp(0, longest - 1)), own)

        def alone(mask: Tensor | None) -> Tensor | None:
            return None if mask is None else F.pad(mask, (0, longest)).repeat_interleave(k, dim=0)

        ids, types = zip(*self.tails, strict=True)
        mask = joined(batch.attention_mask, [[1] * len(tail) for tail in ids], 0)
        joint = TokenBatch(
            input_ids=joined(batch.input_ids, ids, self.padding),
            attention_mask=mask,
            scorable=F.pad(batch.scorable, (0, longest)).repeat_interleave(k, dim=0),
            token_type_ids=None if batch.token_type_ids is None else joined(batch.token_type_ids, types, 0),
            hidden=alone(batch.hidden),
        )
        return joint.columns(max(batch.input_ids.shape[1], int(mask.sum(dim=1).max())))

    def pair_target(self, n: int) -> Target:
        """The label's logit in terms of the model's own task, for `n` texts."""
        foil = None if self.contradiction is None else [self.contradiction] * n
        return Target.of([self.entailment] * n, None if foil is None else torch.tensor(foil))

    def answer(self, output: Any, batch: TokenBatch, target: Target | None = None) -> Readout:
        logits = precise(output.logits)
        values = logits[:, self.entailment]
        if self.contradiction is not None:
            values = values - logits[:, self.contradiction]
        of_each = values.view(len(batch), 1, -1)
        if target is None:
            return Readout(of_each, self.link)
        labels = self.labels_asked(batch, target)
        absent = of_each.new_full((len(batch), 1, len(self.names)), -torch.inf)
        return Readout(absent.scatter(2, labels[:, None], of_each), self.link)

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        return self.answer(output, batch)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        assert self.pair is not None
        return self.pair.read_share(batch)


def _class_of(beginning: str, names: Sequence[str]) -> int | None:
    return next((i for i, name in enumerate(names) if name.lower().startswith(beginning)), None)


def _tail(tokenizer: PreTrainedTokenizerBase, hypothesis: str) -> Tail:
    """The tokens of a pair from the first one of its second text on."""
    encoding = tokenizer("good", hypothesis, verbose=False)
    segments = encoding.sequence_ids(0)
    if 1 not in segments:
        raise ValueError(f"`labels`: the hypothesis {hypothesis!r} has no tokens.")
    first = segments.index(1)
    types = encoding.get("token_type_ids")
    return tuple(encoding["input_ids"][first:]), None if types is None else tuple(types[first:])


def _before(pair: EncodedText, n: int) -> EncodedText:
    """The first `n` tokens of an encoded pair, which are those of its first text."""
    return EncodedText(
        text=pair.text,
        text_pair=None,
        tokens=pair.tokens.select(torch.arange(len(pair)) < n),
        scorable=pair.scorable[:n],
        offsets=pair.offsets[:n],
        words=pair.words[:n],
        segments=pair.segments[:n],
    )
