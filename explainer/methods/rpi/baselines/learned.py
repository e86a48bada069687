"""Baselines of RPI drawn from a trained diffusion over attention: plausible attention that does not depend on the text.

A sample starts from the text's own attention, noised to t = start * T. DDIM takes it from there to the attention of a
text in which every scorable token is the baseline token. `lightning_modules.baseline` trains the diffusion.
"""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from safetensors.torch import save_file
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.explained.weights import (
    Shapes,
    check_format,
    check_sizes,
    file_sha256,
    json_sha256,
    load_tensors,
    read_json,
    shapes_of,
)
from explainer.methods.rpi.baselines.base import AbstractBaseline, Attention, AttentionState, white_noise
from explainer.methods.rpi.diffusion import AttentionDiffusion, Condition
from explainer.methods.rpi.diffusion.attention import logarithms
from explainer.storage.provenance import digest_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND, FORMAT = "rpi_baseline", 2


@dataclass(frozen=True)
class Learned(AbstractBaseline):
    """Samples of an attention diffusion.

    Args:
        diffusion: the trained network.
        digest: a hash of its weights.
        tokenizer: fingerprint of the tokenizer of the model that it was trained for.
        rpi_settings: the settings of RPI that it was trained for, apart from the layers.
        n_steps: of DDIM, from 1 to 50.
        start: t / T that the text's own attention is noised to.

    Raises:
        ValueError: on `n_steps` or `start` out of range.
    """

    name: ClassVar[str] = "learned"
    forwards: ClassVar[float] = 3.0  # as much time as a forward and a backward pass; less on short texts
    diffusion: AttentionDiffusion = field(compare=False, repr=False)
    digest: str
    tokenizer: str
    rpi_settings: dict[str, Any] = field(default_factory=dict, hash=False)
    n_steps: int = 4
    start: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_steps <= 50 or not 0 < self.start <= 1:
            raise ValueError(
                f"`n_steps` must lie between 1 and 50 and `start` in (0, 1], got {self.n_steps} and {self.start}."
            )

    @property
    def path(self) -> dict[str, Any]:
        return {**self.rpi_settings, "layers": self.diffusion.layers}

    @property
    def key(self) -> str:
        return f"{self.name} {self.digest} n_steps={self.n_steps} start={self.start}"

    @torch.no_grad()
    def __call__(self, state: AttentionState, sample: int, seed: int) -> Attention:
        self._check(state)
        diffusion = self.diffusion.to(state.attention.device)
        return drawn(diffusion, state, white_noise(state, sample, seed), self.n_steps, self.start)

    def _check(self, state: AttentionState) -> None:
        """Refuse layers and models that the diffusion was not trained on."""
        if state.layers != self.diffusion.layers:
            raise ValueError(
                f"`layers` must be {self.diffusion.layers}, which this baseline was trained on, got {state.layers}. "
                "Leave `layers` out, or train another."
            )
        if state.explained.text.fingerprint != self.tokenizer or state.attention.shape[2] != self.diffusion.heads:
            raise ValueError(
                f"`baseline` was trained for another model than {state.explained.name!r}: train one for this model."
            )

    @classmethod
    def load(cls, folder: str | Path, **settings: Any) -> "Learned":
        """The baseline that `explainer export` wrote.

        Args:
            settings: fields of the class, instead of those in the folder.

        Raises:
            ValueError: when the folder holds no baseline.
        """
        files = [Path(folder) / name for name in (CONFIG, WEIGHTS)]
        written = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in files)
        return cls(**{**_load(str(folder), written), **settings})

    def save(self, folder: Path, explained: ExplainedModel, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors.

        Args:
            dtype: of the stored weights; that of training by default. They are always loaded in float32.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.diffusion.state_dict()
        for name, parameter in self.diffusion.named_parameters():  # buffers, such as the noise schedule, stay exact
            weights[name] = parameter.detach().to(dtype or parameter.dtype)
        save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
        config = {"amortex": FORMAT, "kind": KIND, "explained_model": explained.name}
        config |= {"tokenizer_sha256": self.tokenizer, "weights_sha256": file_sha256(folder / WEIGHTS)}
        sampling = {"n_steps": self.n_steps, "start": self.start}
        config |= {"sampling": sampling, "reading": self.rpi_settings, "diffusion": self.diffusion.settings}
        config["settings_sha256"] = _digest(config)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def drawn(
    diffusion: AttentionDiffusion, state: AttentionState, noise: Attention, n_steps: int, start: float
) -> Attention:
    """Baselines for the texts: DDIM from their own attention, noised to start * T."""
    condition = condition_of(state, state.batch.scorable)
    # The diffusion has the texts as its first dimension, and works in float32.
    attention, noise = (values.transpose(0, 1).float() for values in (state.attention, noise))
    sample = diffusion.sampled(logarithms(attention), noise, condition, n_steps, start)
    valid = condition.valid.transpose(0, 1)[:, :, None]
    return torch.where(valid, sample.transpose(0, 1).to(state.attention), state.attention)


def condition_of(state: AttentionState, replaced: Bool[Tensor, "batch seq"]) -> Condition:
    """The denoiser's information about the texts; `replaced` marks the tokens that are to be the baseline token."""
    return Condition(state.valid.transpose(0, 1), replaced, state.hidden.float())


@functools.lru_cache(maxsize=4)
def _load(folder: str, written: tuple[int, ...]) -> dict[str, Any]:
    """The arguments of `Learned`, read once per folder and times at which its files were written."""
    config_file, weights_file = (Path(folder) / name for name in (CONFIG, WEIGHTS))
    try:
        config = read_json(config_file)
        if config.get("kind") != KIND:
            raise ValueError(f"it holds a {config.get('kind')!r}")
        check_format(config, FORMAT)
        _check_types(config)
        _check_settings(config["diffusion"], shapes_of(weights_file))
        if config["settings_sha256"] != _digest(config):
            raise ValueError("its settings are not those that were exported: `settings_sha256` is of others")
        if config["weights_sha256"] != file_sha256(weights_file):
            raise ValueError("the bytes of its weights are not those that were exported")
        diffusion = AttentionDiffusion(**config["diffusion"])
        diffusion.load_state_dict(load_tensors(weights_file))
        settings = {"tokenizer": config["tokenizer_sha256"], "rpi_settings": config["reading"], **config["sampling"]}
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"`baseline` {folder!r} is no exported baseline ({error}). Train one by `explainer fit --config "
            "configs/rpi_baseline.yaml` and export it by `explainer export --ckpt ... --output DIR`."
        ) from error
    diffusion = diffusion.requires_grad_(False).eval()
    return {"diffusion": diffusion, "digest": digest_of(diffusion.state_dict())[:16], **settings}


def _digest(config: dict[str, Any]) -> str:
    """The sha256 of the entries, but for itself and for the model's name, which may be edited."""
    return json_sha256(
        {name: one for name, one in config.items() if name not in ("settings_sha256", "explained_model")}
    )


def _check_types(config: dict[str, Any]) -> None:
    """Refuse entries of another type than `Learned.save` writes.

    Raises:
        ValueError: naming the first.
    """
    types = {"tokenizer_sha256": str, "sampling": dict, "reading": dict, "diffusion": dict}
    for name, kind in types.items():
        if not isinstance(config.get(name), kind):
            raise ValueError(f"`{name}` is {config.get(name)!r:.80}")
    sampling = config["sampling"]
    if set(sampling) != {"n_steps", "start"} or type(sampling["n_steps"]) is not int:
        raise ValueError(f"`sampling` is {sampling!r:.80}")
    if type(sampling["start"]) not in (int, float):
        raise ValueError(f"`start` is {sampling['start']!r:.80}")


def _check_settings(settings: dict[str, Any], shapes: Shapes) -> None:
    """Compare the diffusion's settings with its weights before anything is built.

    Raises:
        ValueError: when they differ.
    """
    layers = settings["layers"]
    if not isinstance(layers, list) or not all(type(layer) is int and layer >= 0 for layer in layers):
        raise ValueError(f"`layers` is {layers!r:.80}")
    check_sizes({"layers": len(layers)}, {"layers": shapes.get("scale", (None,))[0]})
    check_sizes(settings, AttentionDiffusion.sizes(shapes))
