"""A trained explainer as an attribution method: one pass of its network, whatever it was trained to predict."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from explainer.explained import ExplainedModel, Readout, Target, TokenBatch
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.folder import load_folder
from explainer.methods.base import AbstractBatchMethod, scorable_only
from explainer.storage.provenance import digest_of
from explainer.typing import Scores


@dataclass(frozen=True)
class Amortized(AbstractBatchMethod):
    """Scores of a mask explainer for the explained model that it was trained for.

    Args:
        explainer: the trained network.
        explained: the model that the network runs on, in place of the one that a call passes: a copy of that model, so
            that adapters of the network do not slow other methods down.
    """

    name: ClassVar[str] = "explainer"
    explainer: AbstractMaskExplainer = field(repr=False)
    explained: ExplainedModel | None = field(default=None, repr=False)

    @classmethod
    def load(cls, folder_or_hub_id: str, model: str | None = None, **options: Any) -> "Amortized":
        """An exported explainer, on an explained model of its own.

        Args:
            model: hub id or folder of the explained model, in place of the one that the export refers to.
            options: of `ExplainedModel.from_pretrained`.

        Raises:
            ValueError: when there is no exported explainer, its files are broken, or the explained model is another.
        """
        explained, explainer = load_folder(folder_or_hub_id, model, **options)
        return cls(explainer, explained)

    def to(self, device: torch.device | str) -> "Amortized":
        """Move the network, and its own explained model where it has one."""
        self.explainer.to(device)
        if self.explained is not None:
            self.explained.to(device)
        return self

    @torch.no_grad()
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return scorable_only(self.explainer(self.explained or explained, batch, target), batch)

    @torch.no_grad()
    def predict_and_attribute(
        self, explained: ExplainedModel, batch: TokenBatch
    ) -> tuple[Readout, Callable[[Target], Scores]]:
        if self.explained is not None and self.explained is not explained:
            return super().predict_and_attribute(explained, batch)
        readout, score = self.explainer.predict_and_attribute(explained, batch)

        @torch.no_grad()
        def scores(target: Target) -> Scores:
            return scorable_only(score(target), batch)

        return readout, scores

    def forward_equivalents(self, n_scorable: int) -> float:
        """The cost of the explanation on top of the prediction.

        1 for a network that reads the text itself, a few hundredths for one that reads the states of the prediction's
        own pass.
        """
        return self.explainer.forward_equivalents

    @property
    def settings(self) -> dict[str, Any]:
        """The network's kind and settings, and a hash of its trained weights.

        Raises:
            TypeError: without an explained model of its own, in which some of the weights may lie.
        """
        if self.explained is None:
            raise TypeError(
                "A trained explainer is known by its weights, and some may lie in the explained model: give it as "
                "`Amortized(explainer, explained)`."
            )
        weights = digest_of(self.explainer.trained(self.explained))
        return {"method": self.name, "kind": self.explainer.kind, **self.explainer.settings, "weights": weights}
