"""A trained explainer, trained some steps further on the one text that it explains.

Barkan et al., AML, EMNLP Findings 2024 (their fAML): `steps` updates by AdamW, from the amortised weights, of

    kept * CE(f(keep(a)), p) + destroyed * -log(1 - p_c(keep(1 - a))) + sparse * mean_i -log(1 - a_i),

a = sigmoid(scores), dropout off, class embeddings frozen. For a class that was not predicted, p is that class. The
weights are put back afterwards, equal to the bit, also after an exception, so that adapters inside the explained model
need no copy of it. The paper reports, for each text, the step with the best value of the reported metric on that same
text: that is `BestOf(Refined(...), metric)`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import EncodedText, ExplainedModel, Target, TokenBatch
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.losses import SoftTarget, prediction_destroyed, prediction_kept, soft_target, sparsity
from explainer.explainers.masking import blend
from explainer.methods.base import AbstractTextMethod
from explainer.methods.trained.amortized import Amortized
from explainer.typing import RaggedScores


@dataclass(frozen=True)
class Refined(AbstractTextMethod):
    """AML's refinement of a mask explainer, text by text.

    Args:
        explainer: the trained one; it is left as it was.
        steps: updates on each text.
        learning_rate: of AdamW; the paper's, which trained its explainers with it too.
        kept: weight of the prediction kept by the masked text (the paper searches its weights between 0 and 1).
        destroyed: weight of the prediction destroyed by the complement.
        sparse: weight of the sparsity prior.
        weight_decay: of AdamW.

    Raises:
        ValueError: when the number of steps is negative.
    """

    name: ClassVar[str] = "explainer"
    explainer: AbstractMaskExplainer = field(repr=False)
    steps: int = 10
    learning_rate: float = 4e-5
    kept: float = 1.0
    destroyed: float = 1.0
    sparse: float = 0.3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"`steps` must not be negative, got {self.steps}.")

    @property
    def label(self) -> str:
        return f"{self.name}, {self.steps} steps on the text"

    @property
    def n_candidates(self) -> int:
        """The scores before the first step, and after each."""
        return self.steps + 1

    def candidates(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
    ) -> list[Float[Tensor, "candidates _"]]:
        """The scores of every text after 0, 1, ... `steps` steps, on the CPU."""
        return [self._refined(explained, text, target[[i]], every_step=True).cpu() for i, text in enumerate(texts)]

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        return [self._refined(explained, text, target[[i]])[-1] for i, text in enumerate(texts)]

    def forward_equivalents(self, n_scorable: int) -> float:
        """The explainer and each masked text take a pass and its backward pass per step, and the scores one pass."""
        passes = 1 + (self.kept != 0) + (self.destroyed != 0)
        return 3.0 * passes * self.steps + 1.0

    @property
    def settings(self) -> dict[str, Any]:
        raise TypeError("A refined explainer is known by its weights, which no settings tell: it is not cached.")

    def _refined(
        self, explained: ExplainedModel, text: EncodedText, target: Target, every_step: bool = False
    ) -> Float[Tensor, "candidates tokens"]:
        """The scores after the last step, or after every step, those before the first in front."""
        if explained.task.anchored:
            raise ValueError(
                f"A refinement changes the probabilities of labels, and the task is {explained.task.name!r}: take "
                "another method."
            )
        amortized, batch, target = Amortized(self.explainer), explained.collate([text]), target.to(explained.device)
        scores: list[Tensor] = []
        with self._training(explained) as parameters, torch.enable_grad():
            if every_step or self.steps == 0:
                scores.append(amortized.scores(explained, batch, target)[0])
            optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
            with torch.no_grad():
                wanted = soft_target(explained(batch), target)
            for step in range(1, self.steps + 1):
                loss = self._loss(explained, batch, target, wanted)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                if every_step or step == self.steps:
                    scores.append(amortized.scores(explained, batch, target)[0])
        return torch.stack(scores)

    def _loss(self, explained: ExplainedModel, batch: TokenBatch, target: Target, wanted: SoftTarget) -> Tensor:
        scores = self.explainer(explained, batch, target)
        mask, baseline = scores.sigmoid(), explained.baseline_embedding()
        loss: Tensor = self.sparse * sparsity(scores, batch.scorable)
        if self.kept:
            kept = explained(batch, edit=blend(batch, mask, baseline))
            loss = loss + self.kept * prediction_kept(kept, wanted, target)
        if self.destroyed:
            rest = explained(batch, edit=blend(batch, 1 - mask, baseline))
            loss = loss + self.destroyed * prediction_destroyed(rest, target)
        return loss

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
