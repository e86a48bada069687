"""An explainer with a backbone of its own: AML's mask model, started from the explained model's weights."""

import copy
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from explainer.explained import ExplainedModel
from explainer.explainers.backbone import AbstractBackboneExplainer


class SeparateExplainer(AbstractBackboneExplainer):
    """A copy of the explained model's backbone, trained whole but for the word embeddings (AML, section 3)."""

    kind: ClassVar[str] = "separate"

    def __init__(self, explained: ExplainedModel) -> None:
        super().__init__(explained)
        self.network = copy.deepcopy(explained.backbone).requires_grad_(True)
        self.network.get_input_embeddings().requires_grad_(False)
        if getattr(self.network, "pooler", None) is not None:
            self.network.pooler = nn.Identity()  # not read here, so not trained and not saved

    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        return self.network
