"""GradientSHAP: integrated gradients at random points of the path, of noisy copies of the text.

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, as captum computes it:

    phi_i = mean over samples of sum_d (e_i + noise - e_r)_d * df_c / de_id (x_r + s (x + noise - x_r)),  s ~ U(0, 1)

f_c is the target's objective. The scores sum to f_c(x) - f_c(x_r) in expectation only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import EncodedText, ExplainedModel, Target, TokenBatch
from explainer.extras import OptionalModule
from explainer.methods.base import AbstractTextMethod
from explainer.methods.captum.forward import CaptumForward, seeded
from explainer.typing import RaggedScores, TokenScores

attr = OptionalModule("captum.attr")


@dataclass(frozen=True)
class GradientShap(AbstractTextMethod):
    """Gradient SHAP values of the word embeddings, baseline: the baseline token at every scorable position.

    Args:
        n_samples: random points of the path, one noisy copy of the text each.
        stdevs: standard deviation of the noise, in units of the embeddings.
        seed: of points and noise; the same text gets the same ones in any batch.
    """

    name: ClassVar[str] = "gradient_shap"
    operator: ClassVar[str | None] = "replace"
    n_samples: int = 25
    stdevs: float = 0.0
    seed: int = 0

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        target = target.to(explained.device)
        scores = []
        for i, text in enumerate(texts):
            with seeded(text.tokens, self.seed, explained.device):
                scores.append(self._of_text(explained, explained.collate([text]), target[i : i + 1]))
        return scores

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 * self.n_samples

    def _of_text(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> TokenScores:
        """The scores of a batch of one text, as many samples at once as the token budget allows."""
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
                additional_forward_args=forward.arguments(batch, target),
            )
        return total[0].sum(dim=-1) / self.n_samples
