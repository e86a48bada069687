"""Baselines of RPI drawn from a trained diffusion over attention: plausible rows that know nothing of the text.

A sample starts from the text's own attention, noised to t = start * T, and goes by DDIM to the attention of a text
whose every scorable token is replaced by the baseline token. `lightning_modules.baseline` trains the diffusion.
"""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.methods.rpi.baselines.base import AbstractBaseline, AttentionState, Maps, white_noise
from explainer.methods.rpi.diffusion import AttentionDiffusion, Condition
from explainer.methods.rpi.diffusion.attention import logarithms
from explainer.storage.provenance import digest_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "rpi_baseline"


@dataclass(frozen=True)
class Learned(AbstractBaseline):
    """Samples of an attention diffusion.

    Args:
        diffusion: the trained network.
        digest: names its weights.
        tokenizer: fingerprint of the tokenizer of the model that it was trained for.
        reading: RPI's settings that it was trained for, beside its layers.
        n_steps: of DDIM, from 1 to 50.
        start: t / T that the text's own attention is noised to.
    """

    name: ClassVar[str] = "learned"
    forwards: ClassVar[float] = 3.0  # a forward and a backward pass; of short texts less (benchmarks/sampling.py)
    diffusion: AttentionDiffusion = field(compare=False, repr=False)
    digest: str
    tokenizer: str
    reading: dict[str, Any] = field(default_factory=dict, hash=False)
    n_steps: int = 4
    start: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_steps <= 50 or not 0 < self.start <= 1:
            raise ValueError(
                f"`n_steps` must lie between 1 and 50 and `start` in (0, 1], got {self.n_steps} and {self.start}."
            )

    @property
    def path(self) -> dict[str, Any]:
        return {**self.reading, "layers": self.diffusion.layers}

    @property
    def key(self) -> str:
        return f"{self.name} {self.digest} n_steps={self.n_steps} start={self.start}"

    @torch.no_grad()
    def __call__(self, state: AttentionState, sample: int, seed: int) -> Maps:
        self._check(state)
        diffusion = self.diffusion.to(state.maps.device)
        return drawn(diffusion, state, white_noise(state, sample, seed), self.n_steps, self.start)

    def _check(self, state: AttentionState) -> None:
        """Raises `ValueError` when this is not what the diffusion was trained on."""
        if state.layers != self.diffusion.layers:
            raise ValueError(
                f"`layers` must be {self.diffusion.layers}, which this baseline was trained on, got {state.layers}. "
                "Leave `layers` out, or train another."
            )
        if state.explained.text.fingerprint != self.tokenizer or state.maps.shape[2] != self.diffusion.heads:
            raise ValueError(
                f"`baseline` was trained for another model than {state.explained.name!r}: train one for this model."
            )

    @classmethod
    def load(cls, folder: str | Path, **settings: Any) -> "Learned":
        """The baseline that `explainer export` wrote; `settings` replace those of its file.

        Raises:
            ValueError: when the folder holds none.
        """
        weights = Path(folder) / WEIGHTS
        loaded = _load(str(folder), weights.stat().st_mtime_ns if weights.is_file() else 0)
        return cls(**{**loaded, **settings})

    def save(self, folder: Path, explained: ExplainedModel, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors.

        Args:
            dtype: of the stored weights, which are loaded in float32 whatever it is; that of training by default.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.diffusion.state_dict()
        for name, parameter in self.diffusion.named_parameters():  # buffers, such as the noise schedule, stay exact
            weights[name] = parameter.detach().to(dtype or parameter.dtype)
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        config = {"amortex": 1, "kind": KIND, "explained_model": explained.name, "tokenizer_sha256": self.tokenizer}
        sampling = {"n_steps": self.n_steps, "start": self.start}
        config |= {"sampling": sampling, "reading": self.reading, "diffusion": self.diffusion.settings}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def drawn(diffusion: AttentionDiffusion, state: AttentionState, noise: Maps, n_steps: int, start: float) -> Maps:
    """Baselines of the texts: their own attention, noised to start * T, and DDIM from there."""
    condition = condition_of(state, state.batch.scorable)
    maps, noise = (values.transpose(0, 1).float() for values in (state.maps, noise))
    found = diffusion.sampled(logarithms(maps), noise, condition, n_steps, start).transpose(0, 1).to(state.maps)
    return torch.where(condition.valid.transpose(0, 1)[:, :, None], found, state.maps)


def condition_of(state: AttentionState, replaced: Tensor) -> Condition:
    """What the denoiser may know of the texts."""
    return Condition(state.valid.transpose(0, 1), replaced, state.hidden.float())


@functools.lru_cache(maxsize=4)
def _load(folder: str, written: int) -> dict[str, Any]:
    """The arguments of `Learned`, read once; `written` tells a file from its successor."""
    try:
        config = json.loads((Path(folder) / CONFIG).read_text())
        if config["kind"] != KIND:
            raise ValueError(f"it holds a {config['kind']!r}")
        diffusion = AttentionDiffusion(**config["diffusion"])
        diffusion.load_state_dict(load_file(Path(folder) / WEIGHTS))
        known = {"tokenizer": config["tokenizer_sha256"], "reading": config["reading"], **config["sampling"]}
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"`baseline` {folder!r} is no exported baseline ({error}). Train one by `explainer fit --config "
            "configs/rpi_baseline.yaml` and export it by `explainer export --ckpt ... --output DIR`."
        ) from error
    diffusion = diffusion.requires_grad_(False).eval()
    return {"diffusion": diffusion, "digest": digest_of(diffusion.state_dict())[:16], **known}
