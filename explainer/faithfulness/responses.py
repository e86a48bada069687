"""Faithfulness of the sources' scores of a response: sources are taken away, the response is read again.

    l(v) = ln p(target | the sources where v is 1), less that of the foil where there is one

The tokens of the response stay, under every operator.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explained import ExplainedModel, ExplainedResponse, Target, Tokens, responses_target
from explainer.faithfulness.perturbation import Operator, check_operator, perturb, units_away
from explainer.metrics.base import MeanOverTexts
from explainer.metrics.response import LDS, MAS, RISE, Drop, Gain, drop, gain, lds, mas, rise

KS = (1, 3, 5)
"""The numbers of sources that drop@k and gain@k take."""

N_MASKS = 32
"""The masks of the linear datamodelling score."""

MAX_GROUPS = 20
"""The groups of sources of RISE and MAS."""

RESPONSE_METRICS: dict[str, type[MeanOverTexts]] = {
    **{f"drop_at_{k}": Drop for k in KS},
    **{f"gain_at_{k}": Gain for k in KS},
    "lds": LDS,
    "lds_bernoulli": LDS,
    "rise": RISE,
    "mas": MAS,
}
"""Every metric of a response by its name, as its mean over responses."""

HIGHER_IS_BETTER = {name: bool(metric.higher_is_better) for name, metric in RESPONSE_METRICS.items()}
"""The direction of each metric."""


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
            variants += _ablated(side, masks, operator, token_id)
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
        variants += _ablated(response, masks[-1], operator, explained.baseline_token_id)
    counts = [len(own) for own in masks]
    values = explained.evaluate(variants, responses_target(responses).repeat_interleave(torch.tensor(counts)))
    assert values.log_probabilities is not None
    of_each = values.log_probabilities.split(counts)
    return [
        Ablations(kept, kind, rows[:, : len(one.target_ids)])
        for one, kept, kind, rows in zip(responses, masks, kinds, of_each, strict=True)
    ]


def _ablated(
    response: ExplainedResponse, kept: Bool[Tensor, "masks sources"], operator: Operator, token_id: int
) -> list[Tokens]:
    """The text of a response under each mask."""
    away = units_away(kept, response.source_masks, len(response.text))
    return [perturb(response.text, mask, operator, token_id) for mask in away]


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


def check_response_metrics(names: Collection[str]) -> None:
    """Check the names of metrics of responses.

    Raises:
        ValueError: when there is no such metric.
    """
    if unknown := [name for name in names if name not in RESPONSE_METRICS]:
        raise ValueError(f"`metrics` of responses must be of {', '.join(RESPONSE_METRICS)}, got {', '.join(unknown)}.")


def response_faithfulness(
    explained: ExplainedModel,
    response: ExplainedResponse,
    scores: Sequence[float],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seed: int = 0,
) -> dict[str, float]:
    """Every metric of one response, by its name; `responses_faithfulness` of this one.

    Raises:
        ValueError: as there.
    """
    (found,) = responses_faithfulness(explained, [response], [scores], operator=operator, n_masks=n_masks, seeds=[seed])
    return found


def responses_faithfulness(
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    scores: Sequence[Sequence[float]],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seeds: Sequence[int] | None = None,
    datamodels: "Sequence[Float[Tensor, ' _']] | None" = None,
) -> list[dict[str, float]]:
    """Every metric of each response, by its name.

    drop and gain are in nats; where there are fewer than k sources, all are taken. RISE and MAS put the end-of-text
    token in the sources' places, as their authors do; the others use `operator`.

    Args:
        scores: of each response's sources, in their order.
        operator: `delete`, `replace`, `blank` or `hide`.
        n_masks: of each linear datamodelling score, at most.
        seeds: of each response's masks; by default 0, 1, 2 ...
        datamodels: `datamodel_values` with these settings, where they are known: they do not depend on the scores.

    Raises:
        ValueError: when there are not as many scores as sources, one is not finite, or there is no source.
    """
    for response, own in zip(responses, scores, strict=True):
        n = len(response.sources)
        if len(own) != n:
            raise ValueError(f"`scores` must be one per source ({n}), got {len(own)}.")
        if not n or not all(math.isfinite(score) for score in own):
            raise ValueError("`scores` must be finite numbers, one at least.")
    seeds = range(len(responses)) if seeds is None else seeds
    if datamodels is None:
        datamodels = datamodel_values(explained, responses, operator=operator, n_masks=n_masks, seeds=seeds)
    of_sources = [torch.tensor(list(own), dtype=torch.float64) for own in scores]
    plans = [_Plan.of(own) for own in of_sources]
    taken = pooled_log_probabilities(explained, responses, [plan.ablations for plan in plans], operator)
    end = explained.tokenizer.eos_token_id
    curves = pooled_log_probabilities(explained, responses, [plan.curve for plan in plans], "replace", end)
    found = []
    for i, plan in enumerate(plans):
        masks = _datamodel_masks(responses[i], n_masks, seeds[i])
        values = datamodels[i].split([len(one) for one in masks])
        measured = plan.measured(of_sources[i], taken[i], curves[i])
        for metric, kept, value in zip(("lds", "lds_bernoulli"), masks, values, strict=True):
            measured[metric] = lds(kept, value, of_sources[i])
        found.append({metric: measured[metric] for metric in RESPONSE_METRICS})
    return found


def datamodel_values(
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seeds: Sequence[int],
) -> list[Float[Tensor, " _masks"]]:
    """l(v) of each response under the masks of its two linear datamodelling scores, those of equal size first.

    Args:
        seeds: of each response's masks.
    """
    check_operator(operator)
    masks = [torch.cat(_datamodel_masks(one, n_masks, seed)) for one, seed in zip(responses, seeds, strict=True)]
    return pooled_log_probabilities(explained, responses, masks, operator)


def _datamodel_masks(response: ExplainedResponse, n_masks: int, seed: int) -> tuple[Tensor, Tensor]:
    n = len(response.sources)
    return equal_size_masks(n, n_masks, seed), bernoulli_masks(n, n_masks, seed)
