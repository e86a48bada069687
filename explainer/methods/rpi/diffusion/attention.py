"""A diffusion over the attention of some layers, in row-wise log space, so that a sample is attention by construction.

z = log A, centred in each row over the entries that the layer's mask lets through, divided by a scale a head. The
softmax over those entries decodes it: rows sum to one, the future and the padding get exactly nothing. Noise is centred
in the same way: it stays in the space of the data.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.methods.rpi.diffusion.denoiser import Condition, Denoiser
from explainer.methods.rpi.diffusion.schedule import Schedule, Times

FLOOR = 1e-6  # attention below it is told from nothing by no baseline

LayerHeads = Float[Tensor, "batch layers heads seq seq"]
Valid = Bool[Tensor, "batch layers seq seq"]


class AttentionDiffusion(nn.Module):
    """Schedule, denoiser, and the way from attention to what they work on and back.

    Args:
        layers: indices of the blocks whose attention this is, from the lowest up.
        heads: attention heads of a block.
        hidden_size: width of the explained model.
        width: of an entry's vector in the denoiser.
        depth: blocks of the denoiser.
        use_hidden: whether the denoiser sees the state that enters the lowest layer.
        schedule: `linear` or `cosine`.
        prediction: `eps` or `v`.
        n_timesteps: T.
    """

    scale: Tensor

    def __init__(
        self,
        layers: list[int],
        heads: int,
        hidden_size: int,
        width: int = 32,
        depth: int = 4,
        use_hidden: bool = True,
        schedule: str = "cosine",
        prediction: str = "v",
        n_timesteps: int = 500,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"layers": layers, "heads": heads, "hidden_size": hidden_size}
        self.settings |= {"width": width, "depth": depth, "use_hidden": use_hidden}
        self.settings |= {"schedule": schedule, "prediction": prediction, "n_timesteps": n_timesteps}
        self.layers, self.heads = tuple(layers), heads
        self.schedule = Schedule(schedule, prediction, n_timesteps)
        self.denoiser = Denoiser(len(layers) * heads, hidden_size, width, depth, use_hidden)
        self.register_buffer("scale", torch.ones(len(layers), heads, 1, 1))

    def encoded(self, logs: LayerHeads, valid: Valid) -> LayerHeads:
        """Attention's logarithms as the z they stand for; whatever they are where not valid, infinite too."""
        return centred(logs.clamp(min=math.log(FLOOR)), valid) / self.scale

    def decoded(self, z: LayerHeads, valid: Valid) -> LayerHeads:
        """Attention: rows sum to one over the valid entries, 0 elsewhere."""
        there = valid[:, :, None]
        shut = torch.where(there | ~there.any(dim=-1, keepdim=True), 0.0, -torch.inf).to(z)  # of an empty row: nothing
        return (z * self.scale).add_(shut).softmax(dim=-1) * there

    def predicted(self, z: LayerHeads, t: Times, condition: Condition, known: Tensor | None = None) -> LayerHeads:
        """The network's word about z_t: noise or v, in the space of the data."""
        share = t.to(z) / self.schedule.n_timesteps
        return centred(self.denoiser(z.flatten(1, 2), share, condition, known).view_as(z), condition.valid)

    def sampled(
        self, logs: LayerHeads, noise: LayerHeads, condition: Condition, n_steps: int, start: float
    ) -> LayerHeads:
        """Attention, by DDIM from the logarithms of a text's own, noised to start * T."""
        highest = torch.full((len(logs),), self.schedule.times(n_steps, start)[0], device=logs.device)
        noised = centred(self.schedule.noised(logs / self.scale, highest, noise), condition.valid)
        known = self.denoiser.known(condition, logs.dtype)
        end = self.schedule.ddim(lambda z, t: self.predicted(z, t, condition, known), noised, n_steps, start)
        return self.decoded(end, condition.valid)


def centred(values: LayerHeads, valid: Valid) -> LayerHeads:
    """Each row of finite values minus its mean over the valid entries; 0 elsewhere."""
    there = valid[:, :, None].to(values)  # a product is several times as fast as a masked fill
    values = values * there
    mean = values.sum(dim=-1, keepdim=True) / there.sum(dim=-1, keepdim=True).clamp(min=1)
    return values.sub_(mean).mul_(there)


def logarithms(maps: Float[Tensor, "*shape seq seq"]) -> Float[Tensor, "*shape seq seq"]:
    """log of attention, bounded below."""
    return maps.clamp(min=FLOOR).log()
