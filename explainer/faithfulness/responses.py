"""Faithfulness of the sources' scores of a response: sources are taken away, the response is read again.

    l(v) = ln p(target | the sources where v is 1), less that of the foil where there is one

The tokens of the response stay, under every operator.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explained import ExplainedModel, ExplainedResponse, Target, Tokens, responses_target
from explainer.faithfulness.measures import check_operator
from explainer.faithfulness.perturbation import Operator, perturb
from explainer.metrics.response import drop, gain, lds, mas, rise

KS = (1, 3, 5)
"""The numbers of sources that drop@k and gain@k take."""

N_MASKS = 32
"""The masks of the linear datamodelling score."""

MAX_GROUPS = 20
"""The groups of sources of RISE and MAS."""

RESPONSE_METRICS = (
    *(f"drop_at_{k}" for k in KS),
    *(f"gain_at_{k}" for k in KS),
    "lds",
    "lds_bernoulli",
    "rise",
    "mas",
)
"""Every metric of a response, by its name."""


def log_probabilities(
    explained: ExplainedModel,
    response: ExplainedResponse,
    kept: Bool[Tensor, "masks sources"],
    operator: Operator = "delete",
    token_id: int | None = None,
) -> Float[Tensor, " masks"]:
    """l(v) of each mask, in nats.

    Args:
        kept: the sources that stay.
        operator: what is done to the tokens of the others.
        token_id: what `replace` puts in their place; by default the baseline token.

    Raises:
        ValueError: when a logit is NaN or infinite.
    """
    return pooled_log_probabilities(explained, [response], [kept], operator, token_id)[0]


def pooled_log_probabilities(
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    kept: Sequence[Bool[Tensor, "_ _sources"]],
    operator: Operator = "delete",
    token_id: int | None = None,
) -> list[Float[Tensor, " _masks"]]:
    """`log_probabilities` of several responses, all in one pooled prediction.

    Args:
        kept: the masks of each response.
    """
    token_id = explained.baseline_token_id if token_id is None else token_id
    totals: list[Tensor] = [torch.zeros(len(masks), dtype=torch.float64) for masks in kept]
    variants: list[Tokens] = []
    targets: list[Target] = []
    parts: list[tuple[Tensor, float]] = []
    for response, masks, total in zip(responses, kept, totals, strict=True):
        for side, sign in ((response, 1.0), (response.foil, -1.0)):
            if side is None or not len(masks):
                continue
            variants += [perturb(side.text, mask, operator, token_id) for mask in _away(side, masks)]
            targets.append(Target(side.target.choices).repeat(len(masks)))
            parts.append((total, sign))
    if not parts:
        return totals
    values = explained.evaluate(variants, Target.joined(targets)).log_probability
    assert values is not None
    for (total, sign), of_part in zip(parts, values.double().split([len(total) for total, _ in parts]), strict=True):
        total += sign * of_part
    return totals


class AblationKind(IntEnum):
    """How the sources that stay were chosen."""

    WHOLE = 0
    ONE_LESS = 1
    HALF = 2
    BERNOULLI = 3


@dataclass(frozen=True, eq=False)
class Ablations:
    """What the model says of a response's tokens while sources of its prompt are taken away.

    Attributes:
        kept: the sources that stay.
        kinds: an `AblationKind` for each row; the first is `WHOLE`, then each source is taken away in turn.
        log_probabilities: ln p of each token of the response, in nats.
    """

    kept: Bool[Tensor, "rows sources"]
    kinds: Int64[Tensor, " rows"]
    log_probabilities: Float[Tensor, "rows tokens"]


def ablations(
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seed: int = 0,
) -> list[Ablations]:
    """Every source taken away by itself, `n_masks` masks of equal size and `n_masks` Bernoulli ones, of each response.

    The log-probabilities are those of the whole target, token by token; foils are not looked at. The masks of the n-th
    response are drawn with the seed `seed` + n.
    """
    masks, kinds, variants = [], [], list[Tokens]()
    for i, response in enumerate(responses):
        n = len(response.sources)
        half, free = equal_size_masks(n, n_masks, seed + i), bernoulli_masks(n, n_masks, seed + i)
        masks.append(torch.cat([torch.ones(1, n, dtype=torch.bool), ~torch.eye(n, dtype=torch.bool), half, free]))
        kinds.append(torch.arange(len(AblationKind)).repeat_interleave(torch.tensor([1, n, len(half), len(free)])))
        away = _away(response, masks[-1])
        variants += [perturb(response.text, mask, operator, explained.baseline_token_id) for mask in away]
    counts = [len(own) for own in masks]
    values = explained.evaluate(variants, responses_target(responses).repeat_interleave(torch.tensor(counts)))
    assert values.log_probabilities is not None
    of_each = values.log_probabilities.split(counts)
    return [
        Ablations(kept, kind, rows[:, : len(one.target_ids)])
        for one, kept, kind, rows in zip(responses, masks, kinds, of_each, strict=True)
    ]


def _away(response: ExplainedResponse, kept: Bool[Tensor, "masks sources"]) -> Bool[Tensor, "masks tokens"]:
    """The tokens of the sources that each mask takes away."""
    if not response.sources:
        return torch.zeros(len(kept), len(response.text), dtype=torch.bool)
    return (~kept).double() @ torch.stack(response.source_masks).double() > 0


def equal_size_masks(n_sources: int, n_masks: int = N_MASKS, seed: int = 0) -> Bool[Tensor, "masks sources"]:
    """Masks that keep half of the sources (rounded down): all of them where there are no more than `n_masks`.

    >>> equal_size_masks(2)
    tensor([[ True, False],
            [False,  True]])
    """
    half = n_sources // 2
    if half == 0:
        return torch.zeros(0, n_sources, dtype=torch.bool)
    if math.comb(n_sources, half) <= n_masks:
        chosen = [list(one) for one in itertools.combinations(range(n_sources), half)]
    else:
        generator = np.random.default_rng(seed)
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < n_masks:  # different ones
            drawn[tuple(sorted(generator.permutation(n_sources)[:half].tolist()))] = None
        chosen = [list(one) for one in drawn]
    masks = torch.zeros(len(chosen), n_sources, dtype=torch.bool)
    for mask, places in zip(masks, chosen, strict=True):
        mask[places] = True
    return masks


def bernoulli_masks(n_sources: int, n_masks: int = N_MASKS, seed: int = 0) -> Bool[Tensor, "masks sources"]:
    """Masks that keep each source with the probability 1/2, by itself."""
    return torch.from_numpy(np.random.default_rng(seed).random((n_masks, n_sources)) < 0.5)


@dataclass(frozen=True, eq=False)
class _Plan:
    """The masks that one explanation wants."""

    order: list[int]
    groups: list[list[int]]

    @classmethod
    def of(cls, scores: Float[Tensor, " sources"]) -> "_Plan":
        order = scores.argsort(descending=True, stable=True).tolist()
        return cls(order, [part.tolist() for part in np.array_split(np.array(order), min(MAX_GROUPS, len(order)))])

    def measured(
        self, scores: Float[Tensor, " sources"], ablations: Float[Tensor, " masks"], curve: Float[Tensor, " points"]
    ) -> dict[str, float]:
        """The metrics of l(v) under `ablations` and along `curve`."""
        whole, nothing, *pairs = ablations[:, None]
        shares = torch.stack([scores[group].clamp(min=0).sum() for group in self.groups])
        fall = {f"drop_at_{k}": float(drop(whole, without)) for k, without in zip(KS, pairs[::2], strict=True)}
        rise_again = {f"gain_at_{k}": float(gain(nothing, only)) for k, only in zip(KS, pairs[1::2], strict=True)}
        return fall | rise_again | {"rise": rise(curve), "mas": mas(curve, shares)}

    @property
    def ablations(self) -> Bool[Tensor, "masks sources"]:
        """For drop and gain: all, none, all without the k highest, only these."""
        n = len(self.order)
        rows = [torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)]
        for k in KS:
            only = torch.zeros(n, dtype=torch.bool)
            only[self.order[:k]] = True
            rows += [~only, only]
        return torch.stack(rows)

    @property
    def curve(self) -> Bool[Tensor, "points sources"]:
        """For RISE and MAS: all, then without one more group at each point."""
        rows = [torch.ones(len(self.order), dtype=torch.bool)]
        for group in self.groups:
            rows.append(rows[-1].clone())
            rows[-1][group] = False
        return torch.stack(rows)


def response_faithfulness(
    explained: ExplainedModel,
    response: ExplainedResponse,
    scores: Sequence[float],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seed: int = 0,
) -> dict[str, float]:
    """Every metric of one response, by its name.

    drop and gain are in nats; where there are fewer than k sources, all are taken. RISE and MAS put the end-of-text
    token in the sources' places, as their authors do; the others use `operator`.

    Args:
        scores: of the sources, in their order.
        operator: `delete`, `replace`, `blank` or `hide`.
        n_masks: of each linear datamodelling score, at most.
        seed: of the masks.

    Raises:
        ValueError: when there are not as many scores as sources, one is not finite, or there is no source.
    """
    maps = {"scores": scores}
    return responses_faithfulness(explained, response, maps, operator=operator, n_masks=n_masks, seed=seed)["scores"]


def responses_faithfulness(
    explained: ExplainedModel,
    response: ExplainedResponse,
    maps: Mapping[str, Sequence[float]],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """`response_faithfulness` of several explanations of one response; what they share is computed once.

    Args:
        maps: the scores of the sources by the name of each explanation.
    """
    check_operator(operator)
    n = len(response.sources)
    for label, scores in maps.items():
        if len(scores) != n:
            raise ValueError(f"`{label}` must be one per source ({n}), got {len(scores)}.")
        if not n or not all(math.isfinite(score) for score in scores):
            raise ValueError(f"`{label}` must be finite numbers, one at least.")
    of_sources = {label: torch.tensor(list(scores), dtype=torch.float64) for label, scores in maps.items()}
    half, free = equal_size_masks(n, n_masks, seed), bernoulli_masks(n, n_masks, seed)
    plans = {label: _Plan.of(scores) for label, scores in of_sources.items()}
    n_own = 2 + 2 * len(KS)
    masks = torch.cat([half, free, *(plan.ablations for plan in plans.values())])
    values = log_probabilities(explained, response, masks, operator)
    of_half, of_free, *of_plans = values.split([len(half), len(free), *[n_own] * len(plans)])
    end = explained.tokenizer.eos_token_id
    curves = torch.cat([plan.curve for plan in plans.values()])
    of_curves = log_probabilities(explained, response, curves, "replace", end).split(
        [len(p.curve) for p in plans.values()]
    )
    found: dict[str, dict[str, float]] = {}
    for (label, plan), own, curve in zip(plans.items(), of_plans, of_curves, strict=True):
        measured = plan.measured(of_sources[label], own, curve)
        measured["lds"] = lds(half, of_half, of_sources[label])
        measured["lds_bernoulli"] = lds(free, of_free, of_sources[label])
        found[label] = {metric: measured[metric] for metric in RESPONSE_METRICS}
    return found
