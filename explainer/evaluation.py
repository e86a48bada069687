"""The five faithfulness numbers of a set of attributions: perturb, predict, and read the metrics."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.metrics import aopc, comprehensiveness, log_odds, sufficiency
from explainer.perturbation import Curves, curves
from explainer.typing import RaggedScores, Target

HIGHER_IS_BETTER = {
    "comprehensiveness": True,
    "sufficiency": False,
    "log_odds": False,
    "aopc_comprehensiveness": True,
    "aopc_sufficiency": False,
}
METRICS = tuple(HIGHER_IS_BETTER)


def faithfulness(
    explained: ExplainedModel, texts: Sequence[EncodedText], scores: RaggedScores, target: Target
) -> dict[str, Tensor]:
    """Each metric of `METRICS` with one value a text, in the order of the texts; arguments as `perturbation.curves`."""
    return read_metrics(curves(explained, texts, scores, target))


def read_metrics(curve: Curves, percent: float = 20.0) -> dict[str, Tensor]:
    """The metrics at `percent` and over all percents of the curves, one value a text."""
    column = curve.at(percent)
    return {
        "comprehensiveness": comprehensiveness(curve.whole, curve.removed[:, column]),
        "sufficiency": sufficiency(curve.whole, curve.kept[:, column]),
        "log_odds": log_odds(curve.whole, curve.replaced[:, column]),
        "aopc_comprehensiveness": aopc(curve.whole, curve.removed),
        "aopc_sufficiency": aopc(curve.whole, curve.kept),
    }


def summary(values: dict[str, Tensor]) -> Tensor:
    """AOPC-comprehensiveness minus AOPC-sufficiency, one value a text: the one number this project ranks by."""
    return torch.as_tensor(values["aopc_comprehensiveness"]) - torch.as_tensor(values["aopc_sufficiency"])
