"""A diffusion over the attention of some layers, in row-wise log space, so that a sample is attention by construction.

z = log A, centred in each row over the entries that the layer's mask lets through, and divided by one scale per head.
The softmax over those entries is the way back: rows sum to one, and future and padding get exactly 0. Noise is centred
in the same way, so that z never leaves the space of centred rows.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.explained.weights import Shapes
from explainer.methods.rpi.diffusion.denoiser import Condition, Denoiser, Pairs
from explainer.methods.rpi.diffusion.schedule import Schedule, Times

FLOOR = 1e-6
"""Smaller attention weights are treated as zero; no baseline can tell them apart."""

LayerHeads = Float[Tensor, "batch layers heads seq seq"]
Valid = Bool[Tensor, "batch layers seq seq"]


class AttentionDiffusion(nn.Module):
    """Schedule and denoiser, and the conversion between attention and the z that they work on.

    Args:
        layers: indices of the blocks whose attention this is, from the lowest up.
        heads: attention heads of a block.
        hidden_size: width of the explained model.
        width: of the denoiser's vector per entry.
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

    @staticmethod
    def sizes(shapes: Shapes) -> dict[str, int | bool | None]:
        """The settings that the shapes of saved weights tell; None where a weight that tells one is not there."""
        maps, scale = shapes.get("denoiser.maps.weight"), shapes.get("scale")
        kept, content = shapes.get("schedule.kept"), shapes.get("denoiser.content.1.weight")
        return {
            "heads": scale[1] if scale else None,
            "width": maps[0] if maps else None,
            "depth": sum(name.startswith("denoiser.blocks.") and name.endswith(".norm.weight") for name in shapes),
            "n_timesteps": kept[0] - 1 if kept else None,
            "use_hidden": content is not None,
            **({"hidden_size": content[1]} if content else {}),
        }

    def encoded(self, logs: LayerHeads, valid: Valid) -> LayerHeads:
        """z of the logarithms of attention; entries that are not valid may hold anything, infinities included."""
        return centred(logs.clamp(min=math.log(FLOOR)), valid) / self.scale

    def decoded(self, z: LayerHeads, valid: Valid) -> LayerHeads:
        """Attention: rows sum to one over the valid entries, 0 elsewhere."""
        attended = valid[:, :, None]
        # A row without valid entries stays open, since a softmax over none of them would be NaN; it is set to 0 below.
        open_ = attended | ~attended.any(dim=-1, keepdim=True)
        closed = torch.where(open_, 0.0, -torch.inf).to(z)
        return (z * self.scale).add_(closed).softmax(dim=-1) * attended

    def predicted(self, z: LayerHeads, t: Times, condition: Condition, known: Pairs | None = None) -> LayerHeads:
        """The denoiser's output at z_t, noise or v, centred like the data.

        Args:
            known: `self.denoiser.known(condition)`, to reuse it when denoising at several times.
        """
        share = t.to(z) / self.schedule.n_timesteps
        return centred(self.denoiser(z.flatten(1, 2), share, condition, known).view_as(z), condition.valid)

    def sampled(
        self, logs: LayerHeads, noise: LayerHeads, condition: Condition, n_steps: int, start: float
    ) -> LayerHeads:
        """Attention, by DDIM from the text's own, noised to start * T.

        Args:
            logs: the logarithms of the text's own attention.
        """
        highest = torch.full((len(logs),), self.schedule.times(n_steps, start)[0], device=logs.device)
        noised = centred(self.schedule.noised(logs / self.scale, highest, noise), condition.valid)
        known = self.denoiser.known(condition, logs.dtype)
        end = self.schedule.ddim(lambda z, t: self.predicted(z, t, condition, known), noised, n_steps, start)
        return self.decoded(end, condition.valid)


def centred(values: LayerHeads, valid: Valid) -> LayerHeads:
    """Each row of finite values minus its mean over the valid entries; 0 elsewhere."""
    counted = valid[:, :, None].to(values)  # a product is several times as fast as a masked fill
    values = values * counted
    mean = values.sum(dim=-1, keepdim=True) / counted.sum(dim=-1, keepdim=True).clamp(min=1)
    return values.sub_(mean).mul_(counted)


def logarithms(attention: Float[Tensor, "*shape seq seq"]) -> Float[Tensor, "*shape seq seq"]:
    """The logarithms of attention weights, those of weights below `FLOOR` raised to that of `FLOOR`."""
    return attention.clamp(min=FLOOR).log()
