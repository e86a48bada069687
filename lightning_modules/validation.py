"""The faithfulness of an explainer on the validation texts, added up batch by batch."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from explainer.evaluation.comparison import SUMMARY
from explainer.explained import AbstractTask, Attributions, ExplainedModel
from explainer.faithfulness.measures import (
    HIGHER_IS_BETTER,
    check_metrics,
    default_metrics,
    faithfulness,
    summary,
    summary_metrics,
)
from explainer.faithfulness.perturbation import Operator


class ValidationFaithfulness(nn.Module):
    """AOPC-comprehensiveness, AOPC-sufficiency, their difference, and a metric of interest, as means over all batches
    since the last `compute`.

    The areas are under the curves of the target's probability, or of its value where the model is a regression.

    Args:
        task: of the explained model.
        metric: `faithfulness`, which is that difference, or a name of `METRIC_SPECS`.
        operator: how tokens are taken out, in place of each metric's own operator.

    Raises:
        ValueError: when there is no such metric, or the model has no probabilities for it.
    """

    def __init__(self, task: AbstractTask, metric: str = SUMMARY, operator: Operator | None = None) -> None:
        super().__init__()
        self.operator = operator
        areas = summary_metrics(default_metrics(task.link))
        self.names = tuple(dict.fromkeys([*areas, *([] if metric == SUMMARY else [metric])]))
        check_metrics(self.names, task)
        self.higher_is_better = HIGHER_IS_BETTER.get(metric, True)
        # Of each metric: the mean over the texts on which it is defined.
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy="ignore") for name in (*self.names, SUMMARY)})

    @torch.no_grad()
    def update(self, explained: ExplainedModel, attributions: Attributions) -> None:
        """Perturb the texts and add their values."""
        values = faithfulness(explained, attributions, self.names, operator=self.operator)
        for name, of_texts in {**values, SUMMARY: summary(values)}.items():
            metric = self.means[name]
            assert isinstance(metric, MeanMetric)
            metric.update(of_texts.to(metric.device))

    def compute(self) -> dict[str, Tensor]:
        """The means by the names of the metrics; the next batch starts at 0."""
        found = {}
        for name, metric in self.means.items():
            assert isinstance(metric, MeanMetric)
            found[name] = metric.compute()
            metric.reset()
        return found
