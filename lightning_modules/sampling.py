"""The quality of attention that a diffusion samples: is it attention, is it neutral, and does RPI gain by it?"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Readout
from explainer.faithfulness.measures import default_metrics, faithfulness, summary, summary_metrics
from explainer.methods import RPI
from explainer.methods.rpi.baselines import Learned
from lightning_modules.data.attention import ReferenceAttention

RIVALS = ("gaussian", "all_reference")


def sample_checks(
    sample: Float[Tensor, "batch layers heads seq seq"], reference: ReferenceAttention
) -> dict[str, Tensor]:
    """The errors of sampled attention, over all rows of real tokens.

    `row_sum_error` is the largest error of a row's sum, `forbidden` the largest attention where the layer's mask lets
    nothing through, and `distance` half the L1 distance to the reference attention of a row, from 0 (equal) to 1.
    """
    valid = reference.valid[:, :, None].expand_as(sample)
    real = valid.any(dim=-1)
    distance = 0.5 * (sample - reference.logs.exp()).abs().masked_fill(~valid, 0.0).sum(dim=-1)
    return {
        "row_sum_error": (sample.sum(dim=-1) - 1)[real].abs().max(),
        "forbidden": sample.masked_fill(valid | ~real[..., None], 0.0).abs().max(),
        "distance": distance[real].mean(),
    }


def neutrality(readout: Readout, reference: Readout) -> Float[Tensor, ""]:
    """KL(f || p_ref), the mean over the texts; labels that are each decided by themselves add up.

    For the values of a regression it is half the squared difference: the divergence of two normal distributions of
    variance 1.

    Args:
        readout: the answer f under a baseline.
        reference: the answer p_ref to the reference input.
    """
    if readout.link == "identity":
        return 0.5 * (readout.logits - reference.logits).square().sum() / len(readout)
    given, wanted = _log_probabilities(readout), _log_probabilities(reference)
    return F.kl_div(wanted, given, log_target=True, reduction="batchmean")


def _log_probabilities(readout: Readout) -> Tensor:
    """Of every choice, or of every label and its absence."""
    logits = readout.logits.float()
    if readout.link == "softmax":
        return logits.log_softmax(dim=-1)
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=-1)


@torch.no_grad()
def rpi_faithfulness(
    explained: ExplainedModel, texts: list[EncodedText], settings: dict[str, Any], baseline: str | Learned
) -> float:
    """The mean faithfulness of RPI's scores for the predictions, with baselines of one kind."""
    rpi = RPI(**{**settings, "baseline": baseline})
    attributions = rpi.attribute(explained, texts, explained.predicted(texts))
    areas = summary_metrics(default_metrics(explained.task.link))
    return float(summary(faithfulness(explained, attributions, areas)).mean())
