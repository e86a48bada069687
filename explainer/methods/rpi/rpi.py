"""RPI: randomized path integration over attention.

Barkan et al., Improving LLM Attributions with Randomized Path-Integration, EMNLP Findings 2024. A = attention
probabilities of a layer (heads, n, n), B = a random baseline in their place, A(s) = B + s (A - B); a token's score is

    sum over query rows q, mean over heads h, of  integral_0^1 df_c / dA_hqj (A(s)) * A_hqj(s) ds * A_hqj

as the authors' code has it (the paper's equation has A - B for the last factor). Each baseline gives one candidate map.
Nothing below the lowest edited layer moves along the path: those blocks run once (`explained.resume`). Several layers
move along one path together and their scores add up; with all of them supplied, no gradient passes through a softmax.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explained.upper_layers import LayerMaps, Resumed, layer_index
from explainer.faithfulness.measures import METRICS
from explainer.faithfulness.perturbation import PERCENTS
from explainer.methods.base import AbstractMethod, logit_of, scorable_only
from explainer.methods.best_of import best_of
from explainer.methods.rpi.baselines import AbstractBaseline, AttentionState, Maps, recorded, sampler
from explainer.typing import Scores, Target

PRESET: Any = None  # a setting's default: what the preset says
PRESETS: dict[str, dict[str, Any]] = {
    "default": {"layers": "all", "rows": "all", "formula": "gradient", "baseline": "all_reference", "n_baselines": 1}
    | {"n_steps": 2, "quadrature": "gauss_legendre"},
    "paper": {"layers": (-3,), "rows": "pooled", "formula": "paper", "baseline": "gaussian", "n_baselines": 24}
    | {"n_steps": 31, "quadrature": "mean"},
}
CHOICES = {
    "preset": tuple(PRESETS),
    "rows": ("pooled", "all"),
    "formula": ("paper", "gradient", "difference"),
    "quadrature": ("mean", "gauss_legendre"),
    "select": ("mean", "best"),
    "select_by": METRICS,
}


@dataclass(frozen=True)
class RPI(AbstractMethod):
    """Path integral of the target's logit over the attention of some layers, from random or reference baselines.

    Args:
        preset: what is not given below comes from here: `default`, found on validation texts, or `paper`.
        layers: blocks whose attention moves together: `all`, a number or a list; negative = from the end.
        rows: query rows that are read: those the head pools (of T5: the encoder's end token), or all of them.
        formula: factors beside the gradient in the integral: A(s) A (`paper`), A (`gradient`), A - B (`difference`).
        baseline: `gaussian`, `all_reference`, `zero`, the folder of a learned one (layers, rows, formula and points are
            those it was trained for unless given), or any `baselines.AbstractBaseline`.
        n_baselines: samples of the baseline, each a candidate map.
        n_steps: points of a path.
        quadrature: `mean` of even points with both ends, as published, or `gauss_legendre`.
        select: `mean` of the candidates, or the `best` of them on the very text explained (label says so).
        select_by: the metric of the best.
        seed: of the baselines.

    Raises:
        ValueError: on an unknown setting; on models whose attention is not on transformers' attention interface.
    """

    name: ClassVar[str] = "rpi"
    preset: str = "default"
    layers: int | str | Sequence[int] = PRESET
    rows: str = PRESET
    formula: str = PRESET
    baseline: str | AbstractBaseline = PRESET
    n_baselines: int = PRESET
    n_steps: int = PRESET
    quadrature: str = PRESET
    select: str = "mean"
    select_by: str = "aopc_comprehensiveness"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_choices("preset")
        made_for = {} if self.baseline is None else sampler(self.baseline).path
        for setting, value in {**PRESETS[self.preset], **made_for}.items():
            if getattr(self, setting) is None:
                object.__setattr__(self, setting, value)
        if isinstance(self.layers, str) and self.layers != "all":
            raise ValueError(f"`layers` must be 'all', a number or a list of numbers, got {self.layers!r}.")
        if self.layers != "all":
            object.__setattr__(self, "layers", (self.layers,) if isinstance(self.layers, int) else tuple(self.layers))
        self._check_choices(*CHOICES)
        if not self.layers or min(self.n_baselines, self.n_steps) < 1:
            raise ValueError("`n_baselines`, `n_steps` and the number of `layers` must be at least 1.")
        if sampler(self.baseline).deterministic and self.n_baselines > 1:
            raise ValueError(
                f"`n_baselines` must be 1 with a baseline that has one sample only, got {self.n_baselines}."
            )

    def _check_choices(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) not in CHOICES[name]:
                raise ValueError(f"`{name}` must be one of {', '.join(CHOICES[name])}, got {getattr(self, name)!r}.")

    @property
    def label(self) -> str:
        return f"{self.name} (best of {self.n_baselines} by {self.select_by})" if self._is_best_of else self.name

    @property
    def _is_best_of(self) -> bool:
        return self.select == "best" and self.n_baselines > 1

    @property
    def settings(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"method": self.name, **values, "baseline": sampler(self.baseline).key}

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        maps = self.candidates(explained, batch, target)
        if self._is_best_of:
            return best_of(explained, batch, target, maps, self.select_by)
        return maps.mean(dim=0)

    def forward_equivalents(self, n_scorable: int) -> float:
        """An upper bound: each point counts as a whole pass, though the blocks below the lowest layer are skipped.

        One pass records, the sampler takes its own, and the best-of's evaluation at most one a candidate and percent.
        """
        evaluation = float(len(PERCENTS)) if self._is_best_of else 0.0
        return 1.0 + self.n_baselines * (sampler(self.baseline).forwards + 3.0 * self.n_steps + evaluation)

    def spread(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """Standard deviation over the candidates, a token."""
        return self.candidates(explained, batch, target).std(dim=0, correction=0)

    @torch.enable_grad()
    def candidates(
        self, explained: ExplainedModel, batch: TokenBatch, target: Target
    ) -> Float[Tensor, "candidates batch seq"]:
        """One map a baseline."""
        with recorded(explained, batch, self._indices(explained)) as (state, resumed, maps):
            found = self._integrals(resumed, maps, state, target)
        order = batch.aligned()[1]
        return torch.stack([scorable_only(batch.restored(scores, order), batch) for scores in found])

    def _indices(self, explained: ExplainedModel) -> tuple[int, ...]:
        if self.layers == "all":
            return tuple(range(len(explained.layers)))
        return tuple(sorted({layer_index(explained, layer) for layer in cast(tuple[int, ...], self.layers)}))

    def _integrals(self, resumed: Resumed, maps: LayerMaps, state: AttentionState, target: Target) -> Tensor:
        """(candidates, batch, seq): baselines, texts and points all together, in passes under the token budget."""
        exact = torch.promote_types(state.maps.dtype, torch.float32)
        points, weights = (values.to(state.maps.device, exact) for values in self._points())
        texts, seq = state.batch.input_ids.shape
        rows = max(state.explained.batch_tokens // seq, 1)
        found = torch.zeros(self.n_baselines, texts, seq, device=points.device, dtype=points.dtype)
        for samples in torch.arange(self.n_baselines).split(max(rows // (texts * len(points)), 1)):
            starts = torch.stack([sampler(self.baseline)(state, k, self.seed) for k in samples.tolist()])
            paths = torch.cartesian_prod(*map(torch.arange, (len(samples), texts, len(points)))).to(found.device)
            for sample, text, step in (part.unbind(dim=1) for part in paths.split(rows)):
                start = starts[sample, :, text].transpose(0, 1)
                scores = self._at(resumed, maps, state, start, points[step], text, target)
                found.index_put_((sample + samples[0], text), weights[step][:, None] * scores, accumulate=True)
        return found

    def map_from(self, resumed: Resumed, maps: LayerMaps, state: AttentionState, start: Maps, target: Target) -> Scores:
        """The map (batch, seq), right-padded, whose path starts from `start`, in the graph of `start`: to learn it.

        Inside `recorded`, which gave `state`, `resumed` and `maps`.
        """
        points, weights = (values.to(start) for values in self._points())
        texts = torch.arange(start.shape[1], device=start.device)
        found = [self._at(resumed, maps, state, start, p.expand(len(texts)), texts, target, True) for p in points]
        return torch.einsum("p,pbs->bs", weights, torch.stack(found))

    def _at(
        self,
        resumed: Resumed,
        maps: LayerMaps,
        state: AttentionState,
        start: Tensor,
        point: Tensor,
        text: Tensor,
        target: Target,
        differentiable: bool = False,
    ) -> Tensor:
        """The integrand (rows, seq) at one point of a path a row; `start` (layers, rows, ...), the rest by `text`."""
        end = state.maps[:, text]
        here = torch.lerp(start, end, point[:, None, None, None].to(end))
        here = here if here.requires_grad else here.requires_grad_()
        maps.supplied = here
        try:
            logit = logit_of(resumed(text), target[text]).sum()
            gradient = torch.autograd.grad(logit, here, create_graph=differentiable)[0]
        finally:
            maps.supplied = None  # a sampler may run the model
        factor = {"paper": here * end, "gradient": end, "difference": end - start}[self.formula]
        scores = self._read(gradient * factor, state, text)
        return scores if differentiable else scores.detach()

    def _read(self, integrand: Tensor, state: AttentionState, text: Tensor) -> Tensor:
        """One value a key (rows, seq) from (layers, rows, heads, queries, keys)."""
        batch = state.batch
        queries = batch.attention_mask if self.rows == "all" else state.explained.pooling(batch)
        summed = torch.einsum("lrhqk,rq->rk", integrand, queries[text].to(integrand))
        return summed / integrand.shape[2]

    def _points(self) -> tuple[Tensor, Tensor]:
        """Points of [0, 1] and their weights."""
        if self.quadrature == "mean":
            return torch.linspace(0, 1, self.n_steps), torch.full((self.n_steps,), 1 / self.n_steps)
        points, weights = np.polynomial.legendre.leggauss(self.n_steps)
        return torch.from_numpy(points + 1) / 2, torch.from_numpy(weights) / 2
