"""A language model's responses for a training run, and what it says when sources of their prompts are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explained import (
    ExplainedModel,
    ExplainedResponse,
    Target,
    TokenBatch,
    explain_response,
    responses_target,
)
from explainer.explained.batch import pad
from explainer.explained.prompt import Prompt
from explainer.explained.sources import SourceLevel
from explainer.explainers.losses import standardized
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import AblationKind, Ablations
from explainer.typing import Scores
from lightning_modules.data.cached import cached_ablations, cached_responses

LEARNED = (AblationKind.ONE_LESS, AblationKind.HALF, AblationKind.BERNOULLI)
"""The kinds of ablation that scores are fitted to; each counts the same."""


@dataclass(frozen=True, eq=False)
class ResponseBatch:
    """The responses of one training step, right-padded, and the measured effects of taking sources away.

    Attributes:
        index: each item's place in its split.
        responses: what is explained, one by one.
        tokens: prompt and response as the models read them.
        target: the tokens that are explained.
        sources: the number of each token's source, -1 where it is of none.
        design: centred within its kind, as `losses.additivity` has it: the sources that each ablation keeps.
        effects: the log-probability of the target under it, centred likewise.
        kinds: the `AblationKind` of each row; -1 at padding.
        scored: the sources that a response has.
        teachers: each teacher's scores of the sources.
    """

    index: list[int]
    responses: Sequence[ExplainedResponse]
    tokens: TokenBatch
    target: Target
    sources: Int64[Tensor, "batch seq"]
    design: Float[Tensor, "batch rows sources"]
    effects: Float[Tensor, "batch rows"]
    kinds: Int64[Tensor, "batch rows"]
    scored: Bool[Tensor, "batch sources"]
    teachers: Mapping[str, Float[Tensor, "batch sources"]]

    def __len__(self) -> int:
        return len(self.responses)

    def to(self, device: torch.device, **kwargs: object) -> "ResponseBatch":
        """The batch on another device; called by Lightning."""
        names = ("tokens", "target", "sources", "design", "effects", "kinds", "scored")
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
        return replace(self, **moved, teachers={label: scores.to(device) for label, scores in self.teachers.items()})

    @cached_property
    def standardized_teachers(self) -> dict[str, Float[Tensor, "batch sources"]]:
        """Each teacher's scores with mean 0 and standard deviation 1 per response, so that they can be mixed."""
        return {label: standardized(scores, self.scored) for label, scores in self.teachers.items()}

    def source_scores(self, scores: Scores) -> Float[Tensor, "batch sources"]:
        """The sum over each source's tokens."""
        n = self.scored.shape[1]
        empty = scores.new_zeros(len(scores), n + 1)
        return empty.scatter_add(1, self.sources.where(self.sources >= 0, n), scores)[:, :n]

    def on_tokens(self, of_sources: Float[Tensor, "batch sources"]) -> Float[Tensor, "batch seq"]:
        """The number of its source at each token; 0 where a token is of none."""
        return of_sources.gather(1, self.sources.clamp(min=0)) * (self.sources >= 0)


@dataclass(frozen=True, eq=False)
class AblatedResponses:
    """A split's responses and everything that was computed of them; the loader takes its batches from here.

    Attributes:
        responses: one or several targets of every response.
        ablations: what they did to each target's tokens; None where nothing was measured.
        teachers: each teacher's scores of the sources of each.
    """

    explained: ExplainedModel
    responses: Sequence[ExplainedResponse]
    ablations: Sequence[Ablations] | None
    teachers: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each item."""
        return [len(one.text) for one in self.responses]

    def batch(self, index: list[int]) -> ResponseBatch:
        """The items of these places."""
        chosen, nothing = [self.responses[i] for i in index], torch.zeros(0)
        measured = [
            (nothing[:, None], nothing, nothing.long()) if self.ablations is None else _centred(self.ablations[i])
            for i in index
        ]
        counts = torch.tensor([len(one.sources) for one in chosen])
        rows, most = max(len(one[1]) for one in measured), int(counts.max())
        design = torch.zeros(len(index), rows, most)
        for place, (own, _, _) in zip(design, measured, strict=True):
            place[: own.shape[0], : own.shape[1]] = own
        units = [torch.tensor(one.text.units) for one in chosen]
        return ResponseBatch(
            index=index,
            responses=chosen,
            tokens=self.explained.collate([one.text for one in chosen]),
            target=responses_target(chosen),
            sources=pad(units, -1),
            design=design,
            effects=pad([one[1] for one in measured], 0.0),
            kinds=pad([one[2] for one in measured], -1),
            scored=torch.arange(most) < counts[:, None],
            teachers={
                label: pad([torch.tensor(scores[i]) for i in index], 0.0) for label, scores in self.teachers.items()
            },
        )


def _centred(measured: Ablations) -> tuple[Tensor, Tensor, Tensor]:
    """Design and effects less their means over the ablations of the same kind, without the whole prompt."""
    design, effects = measured.kept.float(), measured.log_probabilities.sum(dim=1)
    for kind in LEARNED:
        same = measured.kinds == kind
        if bool(same.any()):
            design[same] -= design[same].mean(dim=0)
            effects[same] -= effects[same].mean()
    return design[1:], effects[1:], measured.kinds[1:]


def own_responses(
    explained: ExplainedModel, texts: Sequence[str], new_tokens: int, level: SourceLevel
) -> list[ExplainedResponse]:
    """The model's own responses to messages, computed once and kept on disk.

    Responses without a token, and prompts without two sources, are left out.

    Args:
        texts: one message of the user each.
        new_tokens: of the longest response.
        level: of the sources.
    """
    prompts: list[Prompt] = [[{"role": "user", "content": text}] for text in texts]
    said = cached_responses(explained, prompts, {"max_new_tokens": new_tokens})
    asked = [
        explain_response(explained, prompt, ids, sources=level)
        for prompt, ids in zip(prompts, said, strict=True)
        if ids
    ]
    return [one for one in asked if len(one.sources) > 1]


def ablated_responses(
    explained: ExplainedModel,
    texts: Sequence[str],
    *,
    new_tokens: int,
    level: SourceLevel,
    operator: Operator,
    n_masks: int,
    spans: int,
    seed: int,
    measure: bool = True,
) -> AblatedResponses:
    """`own_responses`, ablated; computed once and kept on disk.

    Args:
        texts: one message of the user each.
        new_tokens: of the longest response.
        spans: further targets of every response: stretches of it, drawn at random.
        seed: of these.
        measure: whether to ablate them at all.

    Raises:
        ValueError: when no response is left.
    """
    whole = [replace(one, score="log_prob") for one in own_responses(explained, texts, new_tokens, level)]
    if not whole:
        raise ValueError(
            f"None of the {len(texts)} texts has a response to learn from: the model must answer with a token, and the "
            f"text must have two sources by `sources: {level}`."
        )
    measured = cached_ablations(explained, whole, operator, n_masks) if measure else None
    return with_spans(explained, whole, measured, spans, seed)


def with_spans(
    explained: ExplainedModel,
    whole: Sequence[ExplainedResponse],
    measured: Sequence[Ablations] | None,
    spans: int,
    seed: int,
) -> AblatedResponses:
    """Ablated responses, each with further targets: stretches of it, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    responses, effects = list(whole), None if measured is None else list(measured)
    for _ in range(spans):
        for i, one in enumerate(whole):
            first, last = sorted(torch.randint(0, len(one.response_ids), (2,), generator=generator).tolist())
            responses.append(one.with_target(token=(first, last + 1)))
            if measured is not None and effects is not None:
                of_span = measured[i].log_probabilities[:, first : last + 1]
                effects.append(replace(measured[i], log_probabilities=of_span))
    return AblatedResponses(explained, responses, effects)
