"""GradientSHAP: integrated gradients at random points of the path, of noisy copies of the text.

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, as captum computes it:

    phi_i = mean over samples of sum_d (e_i + noise - e_r)_d * df_c / de_id (x_r + s (x + noise - x_r)),  s ~ U(0, 1)

The scores sum to f_c(x) - f_c(x_r) in expectation only.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum import attr
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.methods.captum.forward import CaptumForward, alone, seeded
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class GradientShap(AbstractMethod):
    """Gradient SHAP values of the word embeddings, baseline: the baseline token at every scorable position.

    Args:
        n_samples: random points of the path, one noisy copy of the text each.
        stdevs: standard deviation of the noise, in units of the embeddings.
        seed: of points and noise; the same text gets the same ones in any batch.
    """

    name: ClassVar[str] = "gradient_shap"
    n_samples: int = 25
    stdevs: float = 0.0
    seed: int = 0

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        scores = torch.zeros_like(batch.scorable, dtype=torch.float32)
        for i, (row, real) in enumerate(zip(batch.to("cpu").rows(), batch.attention_mask.bool(), strict=True)):
            with seeded(row, self.seed, batch.device):
                scores[i, real] = self._text(explained, alone(batch, i), target[i]).float()
        return scorable_only(scores, batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 * self.n_samples

    def _text(self, explained: ExplainedModel, batch: TokenBatch, target: Tensor) -> Tensor:
        """The scores (tokens,) of a batch of one text, as many samples at once as the token budget allows."""
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        most = max(explained.batch_tokens // batch.input_ids.shape[1], 1)
        total = torch.zeros_like(embeddings)
        for start in range(0, self.n_samples, most):
            n_samples = min(most, self.n_samples - start)
            total += n_samples * attr.GradientShap(forward).attribute(
                embeddings,
                forward.without(batch, embeddings),
                n_samples=n_samples,
                stdevs=self.stdevs,
                target=target[None],
                additional_forward_args=forward.arguments(batch),
            )
        return total[0].sum(dim=-1) / self.n_samples
