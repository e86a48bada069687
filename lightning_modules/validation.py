"""The faithfulness of an explainer on the validation texts, added up batch by batch."""

import torch
from torch import Tensor, nn

from explainer.explained import Attributions, ExplainedModel
from explainer.explained.readout import Link
from explainer.faithfulness.curves import DELETE_REST, DELETE_TOP, curves
from explainer.faithfulness.measures import default_metrics, summary_metrics
from explainer.metrics import AOPCComprehensiveness, AOPCSufficiency


class ValidationFaithfulness(nn.Module):
    """AOPC-comprehensiveness, AOPC-sufficiency and their difference, over all batches since the last `compute`.

    They are areas under the curves of the target's probability, or of its value where the model is a regression.

    Args:
        link: of the explained model's task.
    """

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.names = summary_metrics(default_metrics(link))
        self.comprehensiveness, self.sufficiency = AOPCComprehensiveness(), AOPCSufficiency()

    @torch.no_grad()
    def update(self, explained: ExplainedModel, attributions: Attributions) -> None:
        """Perturb the texts and add their areas."""
        measured = curves(explained, attributions)
        if measured.probabilities is None:
            whole, perturbed = measured.whole_value, measured.value
        else:
            whole, perturbed = measured.whole_probability, measured.probability
        self.comprehensiveness.update(whole, perturbed(DELETE_TOP))
        self.sufficiency.update(whole, perturbed(DELETE_REST))

    def compute(self) -> dict[str, Tensor]:
        """The means over the texts by the names of the metrics, and `faithfulness`; the next batch starts at 0."""
        comprehensiveness, sufficiency = self.comprehensiveness.compute(), self.sufficiency.compute()
        self.comprehensiveness.reset()
        self.sufficiency.reset()
        areas = dict(zip(self.names, (comprehensiveness, sufficiency), strict=True))
        return {**areas, "faithfulness": comprehensiveness - sufficiency}
