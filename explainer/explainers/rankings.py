"""Rankings drawn from an explainer's scores, and their likelihood: scores can so be trained on deleted tokens.

Which tokens are deleted depends on the ranking alone, which has no gradient. The Plackett-Luce distribution over
rankings has one: the next token is drawn with probability in proportion to exp(s_i / temperature), s standardized per
text. For draws with values v_m(k) of the set of the k first tokens (REINFORCE, Williams 1992; each draw is compared
with the mean of the others of its text),

    loss = -mean_m sum_k [v_m(k) - mean_{j != m} v_j(k)] ln P(first k tokens of draw m).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from explainer.explainers.losses import Loss, standardized
from explainer.typing import Scores

Draws = Float[Tensor, "batch draws seq"]


def draw_rankings(scores: Scores, scorable: Bool[Tensor, "batch seq"], draws: int, temperature: float) -> Draws:
    """Scores whose order is drawn from the Plackett-Luce distribution of `scores`, by Gumbel noise.

    Args:
        draws: rankings per text.
        temperature: of the distribution; near 0 every draw is the order of the scores.
    """
    weights = _log_weights(scores.detach(), scorable, temperature)[:, None].expand(-1, draws, -1)
    uniform = torch.rand(weights.shape, device=weights.device).clamp(min=1e-9, max=1 - 1e-7)
    return (weights - (-uniform.log()).log()).masked_fill(~scorable[:, None], 0.0)


def ranking_loss(
    scores: Scores,
    scorable: Bool[Tensor, "batch seq"],
    drawn: Draws,
    values: Float[Tensor, "batch draws points"],
    counts: Int64[Tensor, "batch points"],
    temperature: float,
) -> Loss:
    """The loss above, averaged over the texts; its gradient raises the expected sum of the values.

    Args:
        drawn: as `draw_rankings` gave them for these scores.
        values: of the set of the highest tokens of each draw, at every point.
        counts: how many tokens that set has; at 0 the point adds nothing.
    """
    draws = drawn.shape[1]
    order = drawn.masked_fill(~scorable[:, None], -torch.inf).argsort(dim=2, descending=True)
    weights = _log_weights(scores, scorable, temperature).masked_fill(~scorable, torch.finfo(scores.dtype).min)
    ordered = weights[:, None].expand(-1, draws, -1).gather(2, order)  # (batch, draws, rank)
    left = ordered.flip(2).logcumsumexp(dim=2).flip(2)  # of the tokens from this rank on
    steps = (ordered - left).masked_fill(~scorable[:, None].expand_as(order).gather(2, order), 0.0)
    above = torch.arange(order.shape[2], device=order.device) < counts[..., None]  # (batch, points, rank)
    likelihood = torch.einsum("bmr,bpr->bmp", steps, above.to(steps.dtype))
    advantage = (values - values.mean(dim=1, keepdim=True)) * (draws / (draws - 1))
    return -(advantage * likelihood).sum(dim=2).mean()


def _log_weights(scores: Scores, scorable: Tensor, temperature: float) -> Scores:
    return standardized(scores, scorable) / temperature
