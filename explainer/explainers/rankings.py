"""Rankings drawn from an explainer's scores, and how likely their highest tokens are: training on deleted tokens.

Which tokens are deleted depends on the ranking alone, which has no gradient. The Plackett-Luce distribution over
rankings has one: the next token is drawn with probability in proportion to w_i = exp(s_i / temperature), s standardized
per text. A value v_m(k) of draw m belongs to the set of its k first tokens, in whatever order they came, so the
estimate (REINFORCE, Williams 1992; each draw is compared with the mean of the others of its text) is of sets:

    loss = -mean_m sum_k [v_m(k) - mean_{j != m} v_j(k)] ln P(the k first tokens of draw m are these).

The order inside the set, which is noise to the value, is summed over. The draws are log-weights with Gumbel noise, so a
set comes first when each of its tokens exceeds the highest of the rest, which is a Gumbel variable again, of the
log-weight ln Z = ln sum of the rest's w (Kool et al. 2020, "Estimating gradients for discrete random variables by
sampling without replacement", appendix B):

    P(set) = integral over t of exp(-t - exp(-t)) prod_{i in set} [1 - exp(-exp(ln w_i - ln Z - t))].
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.explainers.losses import Loss, standardized
from explainer.typing import Scores

Draws = Float[Tensor, "batch draws seq"]

POINTS = 32
"""Of the trapezoidal rule, which is right to 1e-6 on this smooth integrand once its range is found."""


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
    sets: Bool[Tensor, "batch draws points seq"],
    values: Float[Tensor, "batch draws points"],
    temperature: float,
) -> Loss:
    """The loss above, averaged over the texts; its gradient raises the expected sum of the values.

    Args:
        sets: the highest tokens of each draw that `draw_rankings` gave for these scores, at every point; an empty set
            adds nothing.
        values: of the sets.
    """
    draws = sets.shape[1]
    weights = _log_weights(scores, scorable, temperature)[:, None, None].expand_as(sets)
    likelihood = set_log_likelihood(weights, sets, ~sets & scorable[:, None, None])
    advantage = (values - values.mean(dim=1, keepdim=True)) * (draws / (draws - 1))
    return -(advantage * likelihood).sum(dim=2).mean()


def set_log_likelihood(
    weights: Float[Tensor, "*sets seq"], first: Bool[Tensor, "*sets seq"], rest: Bool[Tensor, "*sets seq"]
) -> Float[Tensor, " *sets"]:
    """ln P(the tokens of `first` are drawn before those of `rest`), in any order; 0 where one of the two is empty.

    Args:
        weights: log-weights ln w of the Plackett-Luce distribution.
    """
    certain = ~(first.any(dim=-1) & rest.any(dim=-1))
    highest_of_rest = weights.masked_fill(~(rest | certain[..., None]), -torch.inf).logsumexp(dim=-1, keepdim=True)
    above = (weights - highest_of_rest)[..., None, :]  # (*sets, 1, seq)

    def log_integrand(t: Float[Tensor, "*sets points"]) -> Float[Tensor, "*sets points"]:
        exceeds = _log_exceeds(above - t[..., None]) * first[..., None, :]
        return -t - (-t).exp() + exceeds.sum(dim=-1)

    with torch.no_grad():
        # The logarithm is concave. At its peak exp(-t) is 1 plus a slope between 0 and 1 for each token of the set, so
        # the peak is between -ln(1 + k) and 0. Each round keeps what is within e^-16 of the highest point, and a step
        # more.
        grid = torch.linspace(0, 1, POINTS, device=weights.device, dtype=weights.dtype)
        low = -first.sum(dim=-1, keepdim=True).to(weights).log1p() - 4
        high = torch.full_like(low, 18.0)
        for _ in range(3):
            t = low + (high - low) * grid
            height = log_integrand(t)
            near = height > height.amax(dim=-1, keepdim=True) - 16
            step = (high - low) / (POINTS - 1)
            low = t.where(near, torch.inf).amin(dim=-1, keepdim=True) - step
            high = t.where(near, -torch.inf).amax(dim=-1, keepdim=True) + step
        t, step = low + (high - low) * grid, (high - low) / (POINTS - 1)
    return (log_integrand(t).logsumexp(dim=-1) + step[..., 0].log()).masked_fill(certain, 0.0)


def _log_exceeds(x: Tensor) -> Tensor:
    """ln(1 - exp(-exp(x))): of a Gumbel variable of log-weight x to be above 0; to first order x where x is low."""
    return torch.where(x < -12, x, (-torch.expm1(-x.clamp(-12, 10).exp())).log())


def _log_weights(scores: Scores, scorable: Tensor, temperature: float) -> Scores:
    return standardized(scores, scorable) / temperature
