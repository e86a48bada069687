"""Faithfulness metrics of given scores: one table says what each metric perturbs and how its values are read."""

from collections.abc import Callable, Collection, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import AbstractTask, Attributions, ExplainedModel, QuestionAnswering
from explainer.explained.readout import Link
from explainer.faithfulness.aopc_bounds import aopc_bounds, ranking_aopc
from explainer.faithfulness.curves import PERCENTS, Curves, Percents, Perturbation, Plan, Which, curves, joined
from explainer.faithfulness.perturbation import Operator, check_operator
from explainer.metrics import (
    AnswerPrecision,
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
)


@dataclass(frozen=True)
class MetricInputs:
    """Everything that a metric can read its arguments from, under the operator that it is measured with.

    Attributes:
        curves: hold the points of the metric's plan, and maybe others.
        beam_width: of the search for the bounds of normalised AOPC.
    """

    explained: ExplainedModel
    attributions: Attributions
    curves: Curves
    operator: Operator | Literal["none"]
    beam_width: int

    def probability(self, which: Which, percents: Percents) -> Float[Tensor, "n percents"]:
        return self.curves.probability(Perturbation(cast(Operator, self.operator), which), percents)

    def value(self, which: Which, percents: Percents) -> Float[Tensor, "n percents"]:
        return self.curves.value(Perturbation(cast(Operator, self.operator), which), percents)


@dataclass(frozen=True)
class MetricSpec:
    """A faithfulness metric: its class, the texts it perturbs, and how its values are read.

    Attributes:
        metric: the class, whose function gives one value per text.
        operator: what is done to the tokens, unless the caller wants another operator; none where nothing is done.
        plan: the percents of the tokens at which each group of tokens (top, rest, bottom) is taken out.
        read: the arguments of the metric's function.
        needs_probabilities: whether it cannot be measured where the model predicts values (a regression).
        needs_answer: whether it is of the answers to questions alone.
    """

    metric: type[MeanOverTexts]
    operator: Operator | Literal["none"]
    plan: Mapping[Which, Percents]
    read: Callable[[MetricInputs], tuple[Any, ...]]
    needs_probabilities: bool = True
    needs_answer: bool = False

    def used(self, operator: Operator | None = None) -> Operator | Literal["none"]:
        """The operator that the metric is measured with: another one in place of its own, or none."""
        return self.operator if self.operator == "none" else operator or self.operator

    def curves_needed(self, operator: Operator | None = None) -> Plan:
        """The points of the curves that the metric reads, under its own operator or another."""
        used = cast(Operator, self.used(operator))
        return {Perturbation(used, which): percents for which, percents in self.plan.items()}


def _at_a_fifth(metric: type[MeanOverTexts], operator: Operator, which: Which) -> MetricSpec:
    """A metric of the probability when a fifth of the tokens is taken out (or kept)."""
    fifth = (20.0,)
    return MetricSpec(
        metric,
        operator,
        {which: fifth},
        lambda inputs: (inputs.curves.whole_probability, inputs.probability(which, fifth)[:, 0]),
    )


def _area(metric: type[MeanOverTexts], operator: Operator, which: Which, percents: Percents = PERCENTS) -> MetricSpec:
    """A metric of the probability's whole curve."""
    return MetricSpec(
        metric,
        operator,
        {which: percents},
        lambda inputs: (inputs.curves.whole_probability, inputs.probability(which, percents)),
    )


def _value_area(metric: type[MeanOverTexts], which: Which) -> MetricSpec:
    """A metric of the value's whole curve."""
    return MetricSpec(
        metric,
        "delete",
        {which: PERCENTS},
        lambda inputs: (inputs.curves.whole_value, inputs.value(which, PERCENTS)),
        needs_probabilities=False,
    )


def _value_curve(inputs: MetricInputs, which: Which, percents: Percents) -> Float[Tensor, "n points"]:
    """The value at every point, the whole text in front."""
    return torch.cat([inputs.curves.whole_value[:, None], inputs.value(which, percents)], dim=1)


def _normalised_arguments(inputs: MetricInputs) -> tuple[Tensor, ...]:
    """The AOPC of the scores' own ranking, and its bounds."""
    explained, given, operator = inputs.explained, inputs.attributions, cast(Operator, inputs.operator)
    bounds = aopc_bounds(explained, given.texts, given.target, inputs.beam_width, operator)
    return ranking_aopc(explained, given, operator).float(), bounds.lower, bounds.upper


def _answers(inputs: MetricInputs) -> tuple[Any, ...]:
    """Scores, the tokens of the answer that is explained, and the scorable tokens, lists by text."""
    given, task = inputs.attributions, inputs.explained.task
    assert isinstance(task, QuestionAnswering)
    texts = given.texts
    return given.scores, [task.marked_tokens(text) for text in texts], [text.scorable for text in texts]


NINTHS: Percents = tuple(100 * step / 9 for step in range(1, 10))
TENTHS: Percents = tuple(10.0 * step for step in range(1, 11))

METRIC_SPECS: dict[str, MetricSpec] = {
    "comprehensiveness": _at_a_fifth(Comprehensiveness, "delete", "top"),
    "sufficiency": _at_a_fifth(Sufficiency, "delete", "rest"),
    "log_odds": _at_a_fifth(LogOdds, "replace", "top"),
    "aopc_comprehensiveness": _area(AOPCComprehensiveness, "delete", "top"),
    "aopc_sufficiency": _area(AOPCSufficiency, "delete", "rest"),
    "mask_lrp_aopc": _area(MaskLRPAOPC, "replace", "top", NINTHS),
    "mask_lrp_log_odds": _area(MaskLRPLogOdds, "replace", "top", NINTHS),
    "morf_lerf_area": MetricSpec(
        MoRFLeRFArea,
        "blank",
        {"top": TENTHS, "bottom": TENTHS},
        lambda inputs: (_value_curve(inputs, "top", TENTHS), _value_curve(inputs, "bottom", TENTHS)),
        needs_probabilities=False,
    ),
    "normalised_aopc": MetricSpec(NormalisedAOPC, "replace", {}, _normalised_arguments),
    "value_aopc_comprehensiveness": _value_area(AOPCComprehensiveness, "top"),
    "value_aopc_sufficiency": _value_area(AOPCSufficiency, "rest"),
    "answer_precision": MetricSpec(AnswerPrecision, "none", {}, _answers, needs_probabilities=False, needs_answer=True),
}
"""Every metric by its name. `Comparison` and the commands know the metrics from this table alone."""


class _HigherIsBetter(Mapping[str, bool]):
    """The better direction of every metric in the table."""

    def __getitem__(self, name: str) -> bool:
        return bool(METRIC_SPECS[name].metric.higher_is_better)

    def __iter__(self) -> Iterator[str]:
        return iter(METRIC_SPECS)

    def __len__(self) -> int:
        return len(METRIC_SPECS)


HIGHER_IS_BETTER: Mapping[str, bool] = _HigherIsBetter()
ALL_METRICS: KeysView[str] = METRIC_SPECS.keys()

ANSWER_METRICS = ("mask_lrp_aopc", "mask_lrp_log_odds", "answer_precision")
"""The metrics of Mask-LRP's protocol for question answering, which are measured besides the usual ones."""

METRICS = ("comprehensiveness", "sufficiency", "log_odds", "aopc_comprehensiveness", "aopc_sufficiency")
"""The default metrics where the explained model gives probabilities."""

VALUE_METRICS = ("value_aopc_comprehensiveness", "value_aopc_sufficiency", "morf_lerf_area")
"""The default metrics where it predicts values (a regression)."""


def default_metrics(link: Link) -> tuple[str, ...]:
    """The metrics of a task whose logits become probabilities by `link`."""
    return VALUE_METRICS if link == "identity" else METRICS


def metrics_of(task: AbstractTask) -> tuple[str, ...]:
    """The metrics of a task: the default ones of its link, and those of answers where it has answers."""
    usual = default_metrics(task.link)
    return (*usual, *ANSWER_METRICS) if isinstance(task, QuestionAnswering) else usual


def summary_metrics(metrics: Collection[str]) -> tuple[str, str]:
    """The two areas among the metrics that `summary` takes: of probabilities if it can, else of values."""
    if "aopc_comprehensiveness" in metrics:
        return "aopc_comprehensiveness", "aopc_sufficiency"
    return "value_aopc_comprehensiveness", "value_aopc_sufficiency"


def summary(values: Mapping[str, Tensor]) -> Float[Tensor, " n"]:
    """AOPC-comprehensiveness minus AOPC-sufficiency per text: the one number that this project ranks by.

    It is of probabilities where `values` has these areas, and of values otherwise.
    """
    comprehensiveness, sufficiency = summary_metrics(values.keys())
    return torch.as_tensor(values[comprehensiveness]) - torch.as_tensor(values[sufficiency])


def faithfulness(
    explained: ExplainedModel,
    attributions: Attributions,
    metrics: Sequence[str] | None = None,
    *,
    operator: Operator | None = None,
    beam_width: int = 5,
) -> dict[str, Tensor]:
    """Each wanted metric with one value per text, in the order of the texts; only what they need is run.

    Args:
        metrics: of `METRIC_SPECS`, by default those of the model's task. `normalised_aopc` takes about
            beam_width * n^2 passes per text the first time, each of the others a dozen or two.
        operator: `delete`, `replace`, `blank` or `hide`, in place of each metric's own operator.
        beam_width: of the search for the bounds of `normalised_aopc`.

    Raises:
        ValueError: when there is no such metric or operator, a metric needs probabilities and the model has none, or
            scores hold NaN.
    """
    metrics = metrics_of(explained.task) if metrics is None else metrics
    check_metrics(metrics, explained.task)
    check_operator(operator)
    plan = joined(METRIC_SPECS[name].curves_needed(operator) for name in metrics)
    run = curves(explained, attributions, plan)
    values: dict[str, Tensor] = {}
    for name in metrics:
        spec = METRIC_SPECS[name]
        used = spec.used(operator)
        values[name] = spec.metric.function(*spec.read(MetricInputs(explained, attributions, run, used, beam_width)))
    return values


def check_metrics(metrics: Sequence[str], task: AbstractTask | None = None) -> None:
    """Refuse unknown metrics and, where the task is given, those that need probabilities or answers which it has not.

    Raises:
        ValueError: naming them, and the metrics that work.
    """
    if unknown := [name for name in metrics if name not in METRIC_SPECS]:
        raise ValueError(f"`metrics` must be of {', '.join(ALL_METRICS)}, got {', '.join(unknown)}.")
    if task is None:
        return
    if not isinstance(task, QuestionAnswering) and (of := [m for m in metrics if METRIC_SPECS[m].needs_answer]):
        raise ValueError(f"`metrics` {', '.join(of)} are of answers, and the task is {task.name!r}: leave them out.")
    refused = [name for name in metrics if task.link == "identity" and METRIC_SPECS[name].needs_probabilities]
    if refused:
        able = ", ".join(
            name for name, spec in METRIC_SPECS.items() if not spec.needs_probabilities and not spec.needs_answer
        )
        raise ValueError(
            f"`metrics` {', '.join(refused)} need probabilities, and this model predicts values (a regression): use "
            f"{able}."
        )
