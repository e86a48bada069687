"""RPI: randomized path integration over attention.

Barkan et al., Improving LLM Attributions with Randomized Path-Integration, EMNLP Findings 2024. A = attention weights
of a layer (heads, n, n), B = a random baseline in their place, A(s) = B + s (A - B); the score of token j is

    sum over queries q, mean over heads h, of  integral_0^1 df_c / dA_hqj (A(s)) * A_hqj(s) ds * A_hqj

as the authors' code has it (the paper's equation has A - B for the last factor). Each baseline gives one candidate for
the scores. Nothing below the lowest edited layer changes along the path, so those layers run once (`UpperLayers`).
Several layers move along one path together and their scores are added. A layer whose attention is supplied computes no
softmax, so with all layers edited no gradient passes through one.

Letters at the end of names of tensors are their dimensions:

    S samples of the baseline    T texts    P points of the path    R runs: one (sample, text, point) each
    L edited layers              H heads    Q queries               K keys, which are the tokens that get scores
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target, TokenBatch
from explainer.explained.upper_layers import LayerAttention, UpperLayers, layer_index
from explainer.methods.base import AbstractBatchMethod, in_one_sequence, scorable_only
from explainer.methods.rpi.baselines import AbstractBaseline, Attention, AttentionState, record_attention, sampler
from explainer.typing import Scores

PRESET: Any = None
"""A setting's default: the value of the preset."""

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
}


@dataclass(frozen=True)
class RPI(AbstractBatchMethod):
    """Path integral of the objective over the attention of some layers, from random or reference baselines.

    The scores are the mean of the candidates, one per sample of the baseline. `BestOf` takes the best of them instead.

    Args:
        preset: the values of what is not given below: `default`, found on validation texts, or `paper`.
        layers: blocks whose attention moves together: `all`, a number or a list; negative = from the end.
        rows: the queries that are summed: those where the answer is read (`pooled`; in T5, the end token), or `all`.
        formula: factors of the gradient in the integral: A(s) A (`paper`), A (`gradient`), A - B (`difference`).
        baseline: `gaussian`, `all_reference`, `zero`, the folder of a learned one (layers, rows, formula and points are
            those it was trained for unless given), or any `baselines.AbstractBaseline`.
        n_baselines: samples of the baseline, each of which gives a candidate.
        n_steps: points of a path.
        quadrature: `mean` of even points with both ends, as published, or `gauss_legendre`.
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
    def settings(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"method": self.name, **values, "baseline": sampler(self.baseline).key}

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return self.batch_candidates(explained, batch, target).mean(dim=0)

    def forward_equivalents(self, n_scorable: int) -> float:
        """An upper bound: each point counts as a whole pass, though the blocks below the lowest layer are skipped.

        One pass records the attention, and the sampler takes passes of its own.
        """
        return 1.0 + self.n_baselines * (sampler(self.baseline).forwards + 3.0 * self.n_steps)

    # Candidates

    @property
    def n_candidates(self) -> int:
        """Candidates per text: one per sample of the baseline."""
        return self.n_baselines

    @torch.inference_mode(False)
    def candidates(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
    ) -> list[Float[Tensor, "candidates _"]]:
        """The candidates (candidates, tokens) of every text, on the CPU, 0 where not scorable.

        Args:
            target: one row per text, without stand-ins (`Target.resolved`).
        """
        candidates = [torch.empty(0, 0)] * len(texts)

        def run(chunk: list[int]) -> list[Tensor]:
            batch = explained.collate([texts[i] for i in chunk])
            of_batch = self.batch_candidates(explained, batch, target[chunk].to(explained.device))
            return [of_text.T.cpu() for of_text in batch.split(of_batch.movedim(0, -1))]

        for chunk, rows in explained.in_batches(texts, run):
            for i, of_text in zip(chunk, rows, strict=True):
                candidates[i] = of_text
        return candidates

    @in_one_sequence()
    @torch.enable_grad()
    def batch_candidates(
        self, explained: ExplainedModel, batch: TokenBatch, target: Target
    ) -> Float[Tensor, "candidates batch seq"]:
        """The candidates of the texts of one batch."""
        with record_attention(explained, batch, self._layer_indices(explained)) as (state, upper, edit):
            integrals = self._integrals(upper, edit, state, target)
        order = batch.right_padded()[1]
        return torch.stack([scorable_only(batch.original_order(scores, order), batch) for scores in integrals])

    def spread(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """The standard deviation over the candidates, per token."""
        return self.batch_candidates(explained, batch, target).std(dim=0, correction=0)

    # The path

    def scores_from(
        self, upper: UpperLayers, edit: LayerAttention, state: AttentionState, start: Attention, target: Target
    ) -> Scores:
        """The scores (batch, seq), right-padded, whose path starts from `start`, in its graph: to train a baseline.

        Called inside `record_attention`, which gave `state`, `upper` and `edit`.
        """
        points_P, weights_P = (values.to(start) for values in self._points())
        texts_T = torch.arange(start.shape[1], device=start.device)
        integrand_PTK = torch.stack(
            [
                self._integrand(upper, edit, state, start, point.expand(len(texts_T)), texts_T, target, True)
                for point in points_P
            ]
        )
        return torch.einsum("p,ptk->tk", weights_P, integrand_PTK)

    def _layer_indices(self, explained: ExplainedModel) -> tuple[int, ...]:
        if self.layers == "all":
            return tuple(range(len(explained.layers)))
        return tuple(sorted({layer_index(explained, layer) for layer in cast(tuple[int, ...], self.layers)}))

    def _integrals(
        self, upper: UpperLayers, edit: LayerAttention, state: AttentionState, target: Target
    ) -> Float[Tensor, "candidates batch seq"]:
        """The integrals of all samples and texts.

        The runs of all samples, texts and points go through the model together, in passes under the token budget.
        """
        points_P, weights_P = (values.to(state.attention) for values in self._points())
        n_texts, seq = state.batch.input_ids.shape
        runs_per_pass = max(state.explained.batch_tokens // seq, 1)
        # No more samples are kept in memory at once than one pass takes.
        samples_at_once = max(runs_per_pass // (n_texts * len(points_P)), 1)
        integrals_STK = torch.zeros(self.n_baselines, n_texts, seq, device=points_P.device, dtype=points_P.dtype)
        for samples in torch.arange(self.n_baselines).split(samples_at_once):
            starts_SLTHQK = torch.stack([sampler(self.baseline)(state, k, self.seed) for k in samples.tolist()])
            runs = torch.cartesian_prod(*map(torch.arange, (len(samples), n_texts, len(points_P))))
            for part in runs.to(integrals_STK.device).split(runs_per_pass):
                sample_R, text_R, point_R = part.unbind(dim=1)
                start_LRHQK = starts_SLTHQK[sample_R, :, text_R].transpose(0, 1)
                integrand_RK = self._integrand(upper, edit, state, start_LRHQK, points_P[point_R], text_R, target)
                weighted_RK = weights_P[point_R][:, None] * integrand_RK
                integrals_STK.index_put_((sample_R + samples[0], text_R), weighted_RK, accumulate=True)
        return integrals_STK

    def _integrand(
        self,
        upper: UpperLayers,
        edit: LayerAttention,
        state: AttentionState,
        start_LRHQK: Tensor,
        point_R: Tensor,
        text_R: Tensor,
        target: Target,
        differentiable: bool = False,
    ) -> Float[Tensor, "runs seq"]:
        """The integrand at one point per run.

        Args:
            start_LRHQK: where the path of each run starts.
            point_R: the point of its path, from 0 to 1.
            text_R: the text that it is a run of, an index into the batch.
            differentiable: whether the result stays in the graph of the start.
        """
        end_LRHQK = state.attention[:, text_R]
        here_LRHQK = torch.lerp(start_LRHQK, end_LRHQK, point_R[:, None, None, None].to(end_LRHQK))
        here_LRHQK = here_LRHQK if here_LRHQK.requires_grad else here_LRHQK.requires_grad_()
        edit.supplied = here_LRHQK
        try:
            value = upper(text_R).objective(target[text_R]).sum()
            gradient_LRHQK = torch.autograd.grad(value, here_LRHQK, create_graph=differentiable)[0]
        finally:
            # Stop supplying attention here: a learned baseline runs the model itself, and must see its own attention.
            edit.supplied = None
        factor_LRHQK = {
            "paper": here_LRHQK * end_LRHQK,
            "gradient": end_LRHQK,
            "difference": end_LRHQK - start_LRHQK,
        }[self.formula]
        scores_RK = self._summed(gradient_LRHQK * factor_LRHQK, state, text_R)
        return scores_RK if differentiable else scores_RK.detach()

    def _summed(self, integrand_LRHQK: Tensor, state: AttentionState, text_R: Tensor) -> Float[Tensor, "runs seq"]:
        """The sum over layers and the queries that are read, and the mean over heads."""
        batch, task = state.batch, state.explained.task
        # A decoder that does not read the text attends to every row of the encoder.
        apart = state.explained.model.config.is_encoder_decoder and not task.decoder_reads_text
        queries_TQ = batch.attention_mask if self.rows == "all" or apart else task.read_share(batch)
        summed_RK = torch.einsum("lrhqk,rq->rk", integrand_LRHQK, queries_TQ[text_R].to(integrand_LRHQK))
        return summed_RK / integrand_LRHQK.shape[2]

    def _points(self) -> tuple[Tensor, Tensor]:
        """The points of [0, 1] at which the integrand is computed, and their weights."""
        if self.quadrature == "mean":
            return torch.linspace(0, 1, self.n_steps), torch.full((self.n_steps,), 1 / self.n_steps)
        points, weights = np.polynomial.legendre.leggauss(self.n_steps)
        return torch.from_numpy(points + 1) / 2, torch.from_numpy(weights) / 2
