"""Everything that the training of a mask explainer knows of a split's texts, computed once before the first step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from explainer.explained import EncodedText, ExplainedModel, Readout, Target, TokenBatch
from explainer.explained.batch import pad
from explainer.explained.tasks.anchored import AbstractAnchoredTask
from explainer.explainers.losses import SoftTarget, soft_target, standardized
from explainer.explainers.side import states_of
from explainer.rendering.progress import track
from explainer.typing import RaggedScores, Scores
from lightning_modules.processes import shown

States = Float[Tensor, "tokens layers hidden"]


@dataclass(frozen=True, eq=False)
class AnnotatedBatch:
    """The texts of one training step, right-padded, and everything that the step reads of them.

    Attributes:
        index: each text's place in its split.
        texts: the same texts, one by one.
        tokens: the texts as the models read them.
        target: the label that each text is explained for.
        wanted: the answer that the kept tokens should give; None where the target is about tokens of the text.
        teachers: each teacher's scores, as it gave them.
        states: (batch, seq, layers + 1, hidden) states of the explained model, where they are kept.
    """

    index: list[int]
    texts: Sequence[EncodedText]
    tokens: TokenBatch
    target: Target
    wanted: SoftTarget | None
    teachers: Mapping[str, Scores]
    states: Float[Tensor, "batch seq layers hidden"] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def scored(self) -> Bool[Tensor, "batch seq"]:
        """The tokens that have a score."""
        return self.tokens.scorable

    @cached_property
    def standardized_teachers(self) -> dict[str, Scores]:
        """Each teacher's scores with mean 0 and standard deviation 1 per text, so that they can be mixed."""
        return {label: standardized(scores, self.tokens.scorable) for label, scores in self.teachers.items()}

    def to(self, device: torch.device, **kwargs: object) -> "AnnotatedBatch":
        """The batch on another device; called by Lightning."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            target=self.target.to(device),
            wanted=None if self.wanted is None else self.wanted.to(device),
            teachers={label: scores.to(device) for label, scores in self.teachers.items()},
            states=None if self.states is None else self.states.to(device),
        )


@dataclass(frozen=True, eq=False)
class Annotations:
    """A split's texts and everything that was computed of them; the loader takes its batches from here.

    Attributes:
        readout: the explained model's answers.
        target: the label that each text is explained for.
        teachers: each teacher's scores, one tensor per text.
        states: of every text, where a side explainer's training keeps them.
    """

    explained: ExplainedModel
    texts: Sequence[EncodedText]
    readout: Readout
    target: Target
    teachers: Mapping[str, RaggedScores]
    states: Sequence[States] | None = None

    def batch(self, index: list[int]) -> AnnotatedBatch:
        """The annotated texts of these places in the split."""
        texts, target = [self.texts[i] for i in index], self.target[index]
        return AnnotatedBatch(
            index=index,
            texts=texts,
            tokens=self.explained.collate(texts),
            target=target,
            wanted=None if self.explained.task.anchored else soft_target(self.readout[index], target),
            teachers={label: pad([scores[i] for i in index], 0.0) for label, scores in self.teachers.items()},
            states=None if self.states is None else pad_sequence([self.states[i] for i in index], batch_first=True),
        )


def mixed_targets(readout: Readout, share: float, seed: int) -> Target:
    """The predicted label of each text, except for a `share` of the texts one of the other labels, drawn evenly.

    Raises:
        ValueError: when there is no other label.
    """
    predicted, n_labels = readout.predicted().classes, readout.logits.shape[-1]
    if share == 0:
        return Target.of(predicted)
    if n_labels < 2:
        raise ValueError("`other_class` needs a second label to explain, and this model has one output: set it to 0.")
    generator = torch.Generator().manual_seed(seed)
    step = torch.randint(1, n_labels, predicted.shape, generator=generator)
    other = torch.rand(predicted.shape, generator=generator) < share
    return Target.of(torch.where(other, (predicted + step) % n_labels, predicted))


def mixed_spans(
    explained: ExplainedModel, texts: Sequence[EncodedText], readout: Readout, share: float, seed: int
) -> tuple[list[EncodedText], Target]:
    """The texts marked for what the model predicts of each, a `share` of them for a random other span; and the target.

    Args:
        texts: without marks.
        readout: the model's answers to them.
    """
    task = explained.task
    assert isinstance(task, AbstractAnchoredTask)
    draw = torch.Generator().manual_seed(seed)
    other = torch.rand(len(texts), generator=draw) < share
    wanted = [task.any_other(text, draw) if one else "predicted" for text, one in zip(texts, other, strict=True)]
    return task.asked(texts, readout, wanted)


def kept_states(explained: ExplainedModel, texts: Sequence[EncodedText]) -> list[States]:
    """The states that a side explainer reads of each text, in half precision, on the CPU."""
    half = explained.model.dtype if explained.model.dtype.itemsize == 2 else torch.float16
    kept = [torch.empty(0)] * len(texts)
    for chunk in track(explained.batches(texts), shown("states")):
        batch = explained.collate([texts[i] for i in chunk])
        states = torch.stack(states_of(explained, batch)[1], dim=2).to(half).cpu()
        for i, padded in zip(chunk, states, strict=True):
            kept[i] = padded[: len(texts[i])].clone()
    return kept
