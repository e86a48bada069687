"""The faithfulness of a set of attributions: perturb, predict, and read the metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.faithfulness.aopc_bounds import AOPCBounds, aopc_bounds, ranking_aopc
from explainer.faithfulness.perturbation import PERCENTS, Curves, Kind, Plan, curves, joined
from explainer.metrics import (
    AOPCComprehensiveness,
    AOPCSufficiency,
    Comprehensiveness,
    LogOdds,
    MaskLRPAOPC,
    MaskLRPLogOdds,
    MeanOverTexts,
    MoRFLeRFArea,
    NormalisedAOPC,
    Sufficiency,
    normalised_aopc,
)
from explainer.typing import RaggedScores, Target


@dataclass(frozen=True)
class Reading:
    """How a metric is read: its class, the perturbations it needs, and its function's arguments out of their curves."""

    metric: type[MeanOverTexts]
    plan: Plan
    arguments: Callable[[Curves], tuple[Tensor, ...]]


def _single(metric: type[MeanOverTexts], kind: Kind) -> Reading:
    at = (20.0,)
    return Reading(metric, {kind: at}, lambda curve: (curve.whole, curve.probability(kind, at)[:, 0]))


def _area(metric: type[MeanOverTexts], kind: Kind, percents: tuple[float, ...] = PERCENTS) -> Reading:
    return Reading(metric, {kind: percents}, lambda curve: (curve.whole, curve.probability(kind, percents)))


NINTHS = tuple(100 * step / 9 for step in range(1, 10))
TENTHS = tuple(10.0 * step for step in range(1, 11))

READINGS = {
    "comprehensiveness": _single(Comprehensiveness, "removed"),
    "sufficiency": _single(Sufficiency, "kept"),
    "log_odds": _single(LogOdds, "replaced"),
    "aopc_comprehensiveness": _area(AOPCComprehensiveness, "removed"),
    "aopc_sufficiency": _area(AOPCSufficiency, "kept"),
    "mask_lrp_aopc": _area(MaskLRPAOPC, "replaced", NINTHS),
    "mask_lrp_log_odds": _area(MaskLRPLogOdds, "replaced", NINTHS),
    "morf_lerf_area": Reading(
        MoRFLeRFArea,
        {"blanked": TENTHS, "blanked_least": TENTHS},
        lambda curve: (curve.logit("blanked", TENTHS), curve.logit("blanked_least", TENTHS)),
    ),
}
NORMALISED = "normalised_aopc"

HIGHER_IS_BETTER = {name: bool(reading.metric.higher_is_better) for name, reading in READINGS.items()}
HIGHER_IS_BETTER |= {NORMALISED: NormalisedAOPC.higher_is_better}

METRICS = ("comprehensiveness", "sufficiency", "log_odds", "aopc_comprehensiveness", "aopc_sufficiency")
ALL_METRICS = tuple(HIGHER_IS_BETTER)


def faithfulness(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    scores: RaggedScores,
    target: Target,
    metrics: Sequence[str] = METRICS,
    *,
    beam_width: int = 5,
    bounds: AOPCBounds | None = None,
) -> dict[str, Tensor]:
    """Each wanted metric with one value a text, in the order of the texts; only what they need is run.

    Args:
        scores: one tensor (tokens,) a text.
        target: the class explained, one a text.
        metrics: of `ALL_METRICS`; `normalised_aopc` takes about beam_width * n^2 passes, the others a dozen or two.
        beam_width: of the search for the bounds of `normalised_aopc`.
        bounds: those bounds, when known: they do not depend on the scores, so one `aopc_bounds` serves all methods.

    Raises:
        ValueError: when there is no such metric, or scores do not fit their text or hold NaN.
    """
    if unknown := [name for name in metrics if name not in HIGHER_IS_BETTER]:
        raise ValueError(f"`metrics` must be of {', '.join(ALL_METRICS)}, got {', '.join(unknown)}.")
    read = [name for name in metrics if name in READINGS]
    values: dict[str, Tensor] = {}
    if read:
        plan = joined(READINGS[name].plan for name in read)
        values = read_metrics(curves(explained, texts, scores, target, plan), read)
    if NORMALISED in metrics:
        bounds = bounds or aopc_bounds(explained, texts, target, beam_width)
        reached = ranking_aopc(explained, texts, scores, target).float()
        values[NORMALISED] = normalised_aopc(reached, bounds.lower, bounds.upper)
    return {name: values[name] for name in metrics}


def read_metrics(curve: Curves, metrics: Sequence[str] = METRICS) -> dict[str, Tensor]:
    """The metrics of curves that hold what they need, one value a text."""
    return {name: READINGS[name].metric.function(*READINGS[name].arguments(curve)) for name in metrics}


def summary(values: dict[str, Tensor]) -> Tensor:
    """AOPC-comprehensiveness minus AOPC-sufficiency, one value a text: the one number this project ranks by."""
    return torch.as_tensor(values["aopc_comprehensiveness"]) - torch.as_tensor(values["aopc_sufficiency"])
