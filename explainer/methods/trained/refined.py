"""A trained explainer, trained some steps further on the one text that it explains.

Barkan et al., AML, EMNLP Findings 2024 (their fAML): `steps` updates by AdamW, from the amortised weights, of

    kept * CE(f(keep(a)), p) + destroyed * -log(1 - p_c(keep(1 - a))) + sparse * mean_i -log(1 - a_i),

a = sigmoid(scores), dropout off, label embeddings frozen. For a class that was not predicted, p is that class. The
weights are put back afterwards, to the bit, also after an exception, so that adapters inside the explained model need
no copy of it. The paper reports the best of the maps by the metric reported, on that same text: that is `select`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.losses import aim_of_kept, prediction_destroyed, prediction_kept, sparsity
from explainer.faithfulness.perturbation import blend
from explainer.methods.base import AbstractMethod
from explainer.methods.best_of import best_of
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Logits, Scores, Target


@dataclass(frozen=True)
class Refined(AbstractMethod):
    """AML's refinement of a mask explainer, text by text.

    Args:
        explainer: the trained one; it is left as it was.
        steps: updates on each text.
        learning_rate: of AdamW; the paper's, which trained its explainers with it too.
        kept: weight of the prediction kept by the masked text (the paper searches its weights between 0 and 1).
        destroyed: weight of the prediction destroyed by the complement.
        sparse: weight of the sparsity prior.
        weight_decay: of AdamW.
        select: none gives the last map; a metric's name gives the best of all steps + 1 maps by that metric on the
            text itself, and the label says so.
    """

    name: ClassVar[str] = "explainer"
    explainer: AbstractMaskExplainer = field(compare=False)
    steps: int = 10
    learning_rate: float = 4e-5
    kept: float = 1.0
    destroyed: float = 1.0
    sparse: float = 0.3
    weight_decay: float = 0.01
    select: str | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"`steps` must not be negative, got {self.steps}.")

    @property
    def label(self) -> str:
        best = "" if self.select is None else f" (best of {self.steps + 1} by {self.select})"
        return f"{self.name}, {self.steps} steps on the text{best}"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        scores = torch.zeros(batch.input_ids.shape, device=batch.device)
        for i, one in enumerate(batch.alone()):
            scores[i, batch.attention_mask[i].bool()] = self._refined(explained, one, target[i : i + 1])[0]
        return scores

    def forward_equivalents(self, n_scorable: int) -> float:
        """A step is three passes with their backward passes, and every map one; the choice of `select` comes on top."""
        return 9.0 * self.steps + (1.0 if self.select is None else self.steps + 1.0)

    def _refined(self, explained: ExplainedModel, one: TokenBatch, target: Target) -> Scores:
        """The last map of a batch of one text, or its best."""
        amortized = Amortized(self.explainer)
        with self._training(explained) as parameters, torch.enable_grad():
            maps = [amortized(explained, one, target)] if self.select is not None or self.steps == 0 else []
            optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
            with torch.no_grad():
                aim = aim_of_kept(explained(one).softmax(dim=1), target)
            for step in range(self.steps):
                gradients = torch.autograd.grad(self._loss(explained, one, target, aim), parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                if self.select is not None or step == self.steps - 1:
                    maps.append(amortized(explained, one, target))
        return maps[-1] if self.select is None else best_of(explained, one, target, torch.stack(maps), self.select)

    def _loss(self, explained: ExplainedModel, one: TokenBatch, target: Target, aim: Logits) -> Tensor:
        scores = self.explainer(explained, one, F.one_hot(target, len(explained.labels)).float())
        mask, baseline = scores.sigmoid(), explained.baseline_embedding()
        kept = explained(one, edit=blend(one, mask, baseline))
        rest = explained(one, edit=blend(one, 1 - mask, baseline))
        return (
            self.kept * prediction_kept(kept, aim)
            + self.destroyed * prediction_destroyed(rest, target)
            + self.sparse * sparsity(scores, one.scorable)
        )

    @contextmanager
    def _training(self, explained: ExplainedModel) -> Iterator[list[nn.Parameter]]:
        """The parameters to update, dropout off; afterwards values, gradients and modes are what they were."""
        trained, mode = self.explainer.trained(explained), self.explainer.training
        frozen = {id(parameter) for parameter in self.explainer.label.parameters()}
        parameters = [parameter for parameter in trained.values() if id(parameter) not in frozen]
        before: list[Any] = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in parameters]
        try:
            self.explainer.eval()
            for parameter in parameters:
                parameter.requires_grad_(True)
            yield parameters
        finally:
            self.explainer.train(mode)
            with torch.no_grad():
                for parameter, values, gradient, required in before:
                    parameter.copy_(values)
                    parameter.grad = gradient
                    parameter.requires_grad_(required)
