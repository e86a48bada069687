"""The contract of an attribution method: explained model, texts and target in, one score per token out.

Two bases say how a method works: `AbstractBatchMethod` on padded batches (gradients, attention, trained networks),
`AbstractTextMethod` on the texts as they are (perturbations, whatever needs a text alone).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.explained import (
    AbstractExplained,
    Attributions,
    EncodedText,
    ExplainedModel,
    Readout,
    Target,
    TokenBatch,
    Tokens,
    ZeroShotClassification,
)
from explainer.explained.passes import Result
from explainer.explained.readout import precise
from explainer.rendering.progress import Progress
from explainer.typing import Embeddings, RaggedScores, Scores, TokenMask, TokenScores


@dataclass(frozen=True)
class AbstractMethod(ABC):
    """An attribution method and its settings.

    A concrete method is a frozen dataclass: its fields are its settings, and two methods with equal settings give equal
    scores. It leaves the explained model as it found it.

    Attributes:
        complete: whether the scores promise to sum to objective(x) - objective(every scorable token replaced by the
            baseline token).
        operator: how it takes tokens away, an operator of `explainer.faithfulness.perturbation`; None where it takes
            none away.
        is_bound: whether it searches the metric itself, so that no method of practical cost is meant to reach it.
    """

    name: ClassVar[str]
    complete: ClassVar[bool] = False
    operator: ClassVar[str | None] = None
    is_bound: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """The method as a row of a table: the name, and what must be known to read its numbers (a bound, a best-of)."""
        return f"{self.name} (bound)" if self.is_bound else self.name

    @abstractmethod
    def attribute(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, progress: str | None = None
    ) -> Attributions:
        """Scores of every text for its target, on the CPU, in the order of the texts.

        Args:
            target: one row per text, without stand-ins (`Target.resolved`).
            progress: the description of a progress bar; no bar when None.

        Raises:
            ValueError: when a logit or a score is NaN or infinite, naming the text.
        """

    @abstractmethod
    def forward_equivalents(self, n_scorable: int) -> float:
        """The cost for one text of `n_scorable` tokens, in forward passes of it; a backward pass counts as two."""

    def explain(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        targets: Sequence[Target],
        progress: str | None = None,
    ) -> tuple[Readout, list[Attributions]]:
        """The model's answer to every text, and the scores for each of several targets.

        Args:
            targets: stand-ins for predicted choices and runners-up are resolved by the answer.
        """
        readout = explained.predict([text.tokens for text in texts])
        resolved = [target.resolved(readout) for target in targets]
        return readout, [self.attribute(explained, texts, target, progress) for target in resolved]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the scores, for cache keys and reports."""
        return {"method": self.name, **asdict(self)}


@dataclass(frozen=True)
class AbstractBatchMethod(AbstractMethod):
    """A method that works on padded batches."""

    @abstractmethod
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """Scores (batch, seq) in float32: evidence for `target`, 0 where not `batch.scorable`."""

    # Gradient methods work wherever they are called from, also inside a test loop's inference mode.
    @torch.inference_mode(False)
    @torch.enable_grad()
    def attribute(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, progress: str | None = None
    ) -> Attributions:
        scores = [torch.empty(0)] * len(texts)

        def run(method: AbstractBatchMethod, chunk: list[int]) -> RaggedScores:
            batch = explained.collate([texts[i] for i in chunk])
            rows = batch.split(method.scores(explained, batch, target[chunk].to(explained.device)))
            return [row.cpu() for row in rows]

        for chunk, rows in _in_batches(explained, texts, progress, partial(run, self), self._run_leaner(run)):
            for i, row in zip(chunk, rows, strict=True):
                scores[i] = row
        return Attributions(texts, target, scores)

    @property
    def leaner(self) -> "AbstractBatchMethod | None":
        """The same scores with less memory in more time, for a text that does not fit; None where there is no way."""
        return None

    def _run_leaner(self, run: Callable[..., Any]) -> Callable[[list[int]], Any] | None:
        return None if self.leaner is None else partial(run, self.leaner)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def explain(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        targets: Sequence[Target],
        progress: str | None = None,
    ) -> tuple[Readout, list[Attributions]]:
        if not len(texts):
            return super().explain(explained, texts, targets, progress)
        chunks: list[list[int]] = []
        answers: list[Readout] = []
        resolved: list[list[Target]] = []
        scores = [[torch.empty(0)] * len(texts) for _ in targets]

        def run(method: AbstractBatchMethod, chunk: list[int]) -> tuple[Readout, list[Target], list[RaggedScores]]:
            batch = explained.collate([texts[i] for i in chunk])
            readout, score = method.predict_and_attribute(explained, batch)
            readout.check_finite(partial(_name, texts, chunk))
            wanted = [target[chunk].to(explained.device).resolved(readout) for target in targets]
            rows: list[RaggedScores] = [[row.cpu() for row in batch.split(score(target))] for target in wanted]
            return readout.to("cpu"), [target.to("cpu") for target in wanted], rows

        for chunk, (answer, wanted, rows) in _in_batches(
            explained, texts, progress, partial(run, self), self._run_leaner(run)
        ):
            for mine, of_target in zip(scores, rows, strict=True):
                for i, row in zip(chunk, of_target, strict=True):
                    mine[i] = row
            chunks.append(chunk)
            answers.append(answer)
            resolved.append(wanted)
        order = torch.tensor([i for chunk in chunks for i in chunk]).argsort()
        readout = Readout(Readout.joined(answers).logits.detach()[order], explained.task.link)
        joined = [Target.joined([parts[k] for parts in resolved])[order] for k in range(len(targets))]
        attributions = [Attributions(texts, target, mine) for target, mine in zip(joined, scores, strict=True)]
        return readout, attributions

    def predict_and_attribute(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Readout, Callable[[Target], Scores]]:
        """The model's answer for the batch, and a function that gives the scores for any target.

        A method that reads what the prediction computes anyway overrides this: both then come from one pass.
        """
        with torch.no_grad():
            return explained(batch), partial(self.scores, explained, batch)


@dataclass(frozen=True)
class AbstractTextMethod(AbstractMethod):
    """A method that works on the texts as they are, one by one or pooled in one prediction. Nothing is padded."""

    @abstractmethod
    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        """One tensor (tokens,) per text; what stands at tokens that are not scorable is dropped.

        Args:
            target: on the CPU.
        """

    @torch.inference_mode(False)
    @torch.enable_grad()
    def attribute(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, progress: str | None = None
    ) -> Attributions:
        scores = [torch.empty(0)] * len(texts)

        def run(chunk: list[int]) -> RaggedScores:
            return self.scores(explained, [texts[i] for i in chunk], target[chunk].to("cpu"))

        for chunk, rows in _in_batches(explained, texts, progress, run):
            for i, row in zip(chunk, rows, strict=True):
                scores[i] = row.detach().cpu().float().masked_fill(~texts[i].scorable, 0.0)
        return Attributions(texts, target, scores)


Compute = Callable[..., Tensor]


def in_one_sequence(plain: bool = False) -> Callable[[Compute], Compute]:
    """A decorator for what follows a model's own attention, for tasks that read a text several times.

    Zero-shot classification reads one pair per label. There the result is the weighted sum of those for each pair that
    the target's number depends on; the weights are the derivatives of that number by the labels' logits. Of a method
    that is linear in the explained number that is its result for the target; of another one it is the definition.

    Args:
        plain: leave the target's foil and score out, where the result is no evidence for a target.
    """

    def decorator(compute: Compute) -> Compute:
        @wraps(compute)
        def result(method: Any, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Tensor:
            task = explained.task
            if not isinstance(task, ZeroShotClassification):
                return compute(method, explained, batch, target)
            assert task.pair is not None
            padded, order = batch.right_padded()
            target = target.plain if plain else target
            labels, seq = task.labels_asked(padded, target), padded.input_ids.shape[1]
            weights = _derivatives(explained, padded, target).gather(1, labels)
            asked, pair_target = explained.asking(task.pair), task.pair_target(len(batch)).to(batch.device)
            total = torch.zeros(())
            for label, weight in zip(labels.T, weights.T, strict=True):
                part = compute(method, asked, task.sequences(padded, label[:, None]), pair_target)[..., :seq]
                total = total.to(part) + weight[:, None].to(part) * part
            return _as_before(total, batch, order)

        return result

    return decorator


@torch.enable_grad()
def _derivatives(explained: ExplainedModel, batch: TokenBatch, target: Target) -> Tensor:
    """The derivatives (batch, labels) of the target's number by the logits."""
    with torch.no_grad():
        readout = explained(batch)
    logits = readout.logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Readout(logits, readout.link).objective(target).sum(), logits)
    return slope[:, 0]


def _as_before(values: Tensor, batch: TokenBatch, order: Tensor | None) -> Tensor:
    """Values (..., batch, seq) of the right-padded batch in its own columns."""
    if order is None:
        return values
    return values.gather(-1, order.argsort(dim=1).expand_as(values)).masked_fill(~batch.scorable, 0.0)


def _in_batches(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    progress: str | None,
    run: Callable[[list[int]], Result],
    leaner: Callable[[list[int]], Result] | None = None,
) -> Iterator[tuple[list[int], Result]]:
    """`explained.in_batches`, with a progress bar over the texts where it is wanted."""
    with nullcontext() if progress is None else Progress(progress, len(texts)) as shown:
        for chunk, result in explained.in_batches(texts, run, leaner):
            yield chunk, result
            if shown is not None:
                shown.advance(len(chunk))


def _name(texts: Sequence[EncodedText], chunk: Sequence[int], row: int) -> str:
    """The name, in an error, of the text in a row of the batch."""
    return f"`texts[{chunk[row]}]` ({texts[chunk[row]].text[:80]!r})"


def scorable_only(scores: Tensor, batch: TokenBatch) -> Scores:
    """The scores in float32 without graph, exactly 0 at special tokens and padding."""
    return scores.detach().float().masked_fill(~batch.scorable, 0.0)


def gradient_times_input(
    explained: AbstractExplained,
    batch: TokenBatch,
    target: Target,
    scoring: AbstractContextManager[None] | None = None,
) -> Scores:
    """Sum over the hidden dimension of e_i * dL/de_i, L = the sum of the target's objective over the texts.

    Args:
        scoring: as in `AbstractExplained.objective`.
    """
    leaves: list[Embeddings] = []

    def lift(embeddings: Tensor) -> Tensor:
        leaves.append(embeddings.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        value = explained.objective(batch, target, lift, scoring).sum()
        (gradient,) = torch.autograd.grad(value, leaves)
    return scorable_only((precise(leaves[0]) * precise(gradient)).sum(dim=-1), batch)


def one_at_a_time(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    without: Callable[[Tokens, TokenMask], Tokens],
) -> list[TokenScores]:
    """objective(x) - objective(`without(x, unit)`) for every unit of every text, all in one pooled prediction.

    A unit's score is shared evenly among its tokens, so that sums over tokens, words and units agree.
    """
    units = [text.unit_masks for text in texts]
    variants = [without(text.tokens, unit) for text, own in zip(texts, units, strict=True) for unit in own]
    owner = [i for i, own in enumerate(units) for _ in own]
    everything = target[[*range(len(texts)), *owner]]
    value = explained.evaluate([*(text.tokens for text in texts), *variants], everything).objective
    change = (value[: len(texts)][owner] - value[len(texts) :]).split([len(own) for own in units])
    return [from_units(text, own, scores) for text, own, scores in zip(texts, units, change, strict=True)]


def from_units(text: EncodedText, units: Sequence[TokenMask], scores: Tensor) -> TokenScores:
    """A score per token from one per unit: a unit's score is shared evenly among its tokens."""
    tokens: Tensor = torch.zeros(len(text), dtype=scores.dtype)
    for unit, score in zip(units, scores, strict=True):
        tokens[unit] = score / int(unit.sum())
    return tokens
