"""Training losses of a mask explainer: one number from scores, masks or logits, averaged over the texts."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.typing import Logits, Scores, Target

Loss = Float[Tensor, ""]


def prediction_kept(logits: Logits, probabilities: Float[Tensor, "batch labels"]) -> Loss:
    """CE(f(keep(a)), p): the kept tokens alone should give the whole text's prediction (AML, equation 3)."""
    return F.cross_entropy(logits, probabilities)


def aim_of_kept(probabilities: Float[Tensor, "batch labels"], target: Target) -> Float[Tensor, "batch labels"]:
    """What the kept tokens should give: the whole text's prediction, or the target alone where it was not predicted."""
    predicted = (probabilities.argmax(dim=1) == target)[:, None]
    return torch.where(predicted, probabilities, F.one_hot(target, probabilities.shape[1]).to(probabilities))


def prediction_destroyed(logits: Logits, target: Target, eps: float = 1e-6) -> Loss:
    """-log(1 - p_c(keep(1 - a)) + eps): without the kept tokens the target should be gone (AML, equation 4)."""
    probability = logits.softmax(dim=-1).gather(1, target[:, None])[:, 0]
    return -(1 - probability + eps).log().mean()


def sparsity(scores: Scores, scorable: Bool[Tensor, "batch seq"]) -> Loss:
    """Mean over a text's tokens of -log(1 - a_i), a = sigmoid(scores): keep little (AML, equation 5)."""
    # -log(1 - sigmoid(s)) = softplus(s), which does not overflow.
    return _mean_over_texts(F.softplus(scores), scorable)


def correlation_matching(scores: Scores, teacher: Scores, scorable: Bool[Tensor, "batch seq"]) -> Loss:
    """1 - Pearson correlation with the teacher's scores, text by text; a text of one token counts 0."""
    return (
        (1 - F.cosine_similarity(_centred(scores, scorable), _centred(teacher, scorable), dim=1))
        .mul((scorable.sum(dim=1) > 1).float())
        .mean()
    )


def additivity(
    scores: Scores, design: Float[Tensor, "batch subsets seq"], effects: Float[Tensor, "batch subsets"]
) -> Loss:
    """1 - correlation between the scores that subsets of tokens sum to and the effects that they really have.

    Faithfulness correlation (Bhatt et al., IJCAI 2020) as a loss: no teacher, the explained model alone. Design and
    effects are centred already (`methods.subset_regression.SubsetEffects`).
    """
    return (1 - F.cosine_similarity(torch.einsum("bms,bs->bm", design, scores), effects, dim=1)).mean()


def standardized(scores: Scores, scorable: Bool[Tensor, "batch seq"]) -> Scores:
    """Each text's scores with mean 0 and standard deviation 1 over its tokens, so that teachers can be mixed."""
    centred = _centred(scores, scorable)
    count = scorable.sum(dim=1, keepdim=True).clamp(min=1)
    deviation = (centred.pow(2).sum(dim=1, keepdim=True) / count).sqrt()
    # Below rounding error of the scores' own size there is no difference to stretch: constant scores become 0.
    floor = torch.finfo(scores.dtype).eps * (scores * scorable).abs().amax(dim=1, keepdim=True)
    return torch.where(deviation > 4 * floor, centred / deviation.clamp(min=torch.finfo(scores.dtype).tiny), 0.0)


def _centred(scores: Tensor, scorable: Tensor) -> Tensor:
    count = scorable.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (scores * scorable).sum(dim=1, keepdim=True) / count
    return (scores - mean) * scorable


def _mean_over_texts(values: Tensor, scorable: Tensor) -> Tensor:
    return ((values * scorable).sum(dim=1) / scorable.sum(dim=1).clamp(min=1)).mean()
