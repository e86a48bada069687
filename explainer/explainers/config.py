"""config.json of an exported explainer: the network, the model that it explains, and how to notice another one."""

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from explainer.explained import ExplainedModel, Target
from explainer.explained.pretrained import DTYPES
from explainer.explained.weights import Shapes, check_format, file_sha256, json_sha256, read_json
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer

CONFIG = "config.json"
MERGED = "explained"
FORMAT = 3
_PROBE = "The plot is thin , but the acting is wonderful ."
_PROBED = 64
"""Logits of the probe that are kept: those of all labels, or of the first tokens of a vocabulary."""
_UNSIGNED = ("explained_model", "settings_sha256")
"""Entries that may be edited: a folder can move away from its model."""


@dataclass(frozen=True)
class ExportConfig:
    """What is needed to load an exported explainer, and to notice damage, and that it is loaded onto the wrong model.

    Attributes:
        explainer: `kind` of the network, and its settings.
        explained_model: hub id, or a folder relative to the export's, so that the two can move together; `explained`
            where the export holds it itself.
        baseline_token: that of the explained model in training.
        labels: of the explained model, in the order of their indices; none where its task has no closed list.
        dtype: the precision of the explained model in training; the one that it is loaded in.
        tokenizer_sha256: of the tokenizer's whole pipeline.
        probe_logits: the explained model's logits for a fixed sentence, the first 64 of them.
        probe_scores: the explainer's scores of that sentence's tokens for the first label.
        longest_text: tokens of the longest text that the explainer was trained on, where that is known.
        task: settings of the explained model's task.
        weights_sha256: of the file of the explainer's weights.
        explained_sha256: of the file names and files of weights in `explained`; None where the model is elsewhere.
        settings_sha256: of all other entries but `explained_model`.
        amortex: version of this format.
        model_type: how transformers knows such a config.json.
    """

    explainer: dict[str, Any]
    explained_model: str
    baseline_token: str
    labels: list[str]
    dtype: str
    tokenizer_sha256: str
    probe_logits: list[float]
    probe_scores: list[float]
    longest_text: int | None
    task: dict[str, Any]
    weights_sha256: str
    explained_sha256: str | None
    settings_sha256: str = ""
    amortex: int = FORMAT
    model_type: str = "amortex"

    @classmethod
    def of(
        cls,
        explained: ExplainedModel,
        explainer: AbstractMaskExplainer,
        folder: Path,
        weights: Path,
        scores: list[float],
        merged: bool = False,
    ) -> "ExportConfig":
        """The configuration of an explainer.

        Args:
            folder: of the export.
            weights: the file of the explainer's weights, written.
            scores: of the probe, by those weights.
            merged: whether the folder holds the explained model too.

        Raises:
            ValueError: when the explained model has no name to refer to, and is not in the folder.
        """
        return cls(
            explainer={"kind": explainer.kind, **explainer.settings},
            explained_model=MERGED if merged else _reference(explained, folder),
            baseline_token=str(explained.tokenizer.convert_ids_to_tokens(explained.baseline_token_id)),
            labels=_labels(explained),
            dtype=str(explained.model.dtype).removeprefix("torch."),
            tokenizer_sha256=explained.text.fingerprint,
            probe_logits=_rounded(_probe(explained)),
            probe_scores=_rounded(scores),
            longest_text=explainer.longest_text,
            task=explained.task.settings,
            weights_sha256=file_sha256(weights),
            explained_sha256=_weights_below(folder / MERGED) if merged else None,
        )

    @property
    def digest(self) -> str:
        """What `settings_sha256` has to be."""
        return settings_digest(asdict(self))

    def write(self, folder: Path) -> None:
        values = asdict(self) | {"settings_sha256": self.digest}
        (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ExportConfig":
        """The configuration in a folder, its types and its digest checked.

        Raises:
            ValueError: naming the file, when it is missing, broken, changed, of another version or of something else.
        """
        try:
            values = read_json(folder / CONFIG)
            check_format(values, FORMAT)
            _check_types(cls, values)
            config = cls(**values)
            if config.settings_sha256 != config.digest:
                raise ValueError("its settings are not those that were exported: `settings_sha256` is of others")
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{str(folder)!r} is no exported explainer: its {CONFIG} is missing, broken or of something else "
                f"({error}). Export one by `explainer export --ckpt ... --output DIR`."
            ) from error
        return config

    def check_files(self, folder: Path, weights: Path, shapes: Shapes) -> None:
        """Compare the files with what was exported, before anything is built from them.

        Args:
            weights: the file of the explainer's weights.
            shapes: of those weights.

        Raises:
            ValueError: when there is no such kind of network, it has no such setting, its weights have other sizes, or
                a file has changed.
        """
        settings = dict(self.explainer)
        kind = settings.pop("kind")
        if kind not in EXPLAINERS:
            raise ValueError(f"{CONFIG} names an explainer of kind {kind!r}; there are {', '.join(EXPLAINERS)}.")
        try:
            EXPLAINERS[kind].check_settings(settings, shapes)
        except ValueError as error:
            raise ValueError(f"{str(folder / CONFIG)!r} does not fit the weights beside it: {error}") from error
        if file_sha256(weights) != self.weights_sha256:
            raise ValueError(f"{str(weights)!r} is broken: its bytes are not those that were exported.")
        below = folder / MERGED
        if self.explained_sha256 is not None and below.is_dir() and _weights_below(below) != self.explained_sha256:
            raise ValueError(f"{str(below)!r} is broken: its weights are not those that were exported.")

    def model_of(self, folder: Path) -> str:
        """The explained model as it is found from the export's own folder."""
        path = folder / self.explained_model
        # `Path.exists` raises an error on a name that is too long for a path.
        return str(path.resolve()) if os.path.exists(path) else self.explained_model

    def check(self, explained: ExplainedModel) -> None:
        """Compare a model with the one that the explainer was trained for.

        Raises:
            ValueError: when it is another one, or its outputs are taken for another task's.
        """
        name = explained.name
        if explained.text.fingerprint != self.tokenizer_sha256:
            raise ValueError(
                f"The tokenizer of {name!r} is not the one this explainer was trained with. "
                "Name the right model by `model`."
            )
        labels = _labels(explained)
        if moved := [label for i, label in enumerate(labels) if _elsewhere(label, i, self.labels)]:
            raise ValueError(
                f"The labels of {name!r} are {labels}, and this explainer was trained for {self.labels}: "
                f"{moved[0]!r} has another place. Name the right model by `model`."
            )
        found = _probe(explained)
        if not self._near(found, self.probe_logits, explained):
            raise ValueError(
                f"{name!r} does not predict what the model this explainer was trained for predicts (logits "
                f"{_rounded(found)} instead of {self.probe_logits} on a probe). Name the right model by `model`."
            )
        wanted = _without_names(self.task)
        if (given := _without_names(explained.task.settings)) != wanted:
            raise ValueError(
                f"The task of {name!r} is {given}, and this explainer was trained for {wanted}. Name the right model "
                "by `model`, or pass the right `task`."
            )
        if labels != self.labels:
            warnings.warn(
                f"The labels of {name!r} are {labels}; when this explainer was trained they were {self.labels}.",
                stacklevel=2,
            )

    def check_scores(self, explained: ExplainedModel, explainer: AbstractMaskExplainer) -> None:
        """Compare the explainer's scores of the probe with those of the exported one.

        Raises:
            ValueError: when it gives others.
        """
        found = probe_scores(explained, explainer)
        if not self._near(found, self.probe_scores, explained):
            raise ValueError(
                f"The explainer of {explained.name!r} does not give the scores that it gave when it was exported "
                f"({_rounded(found)} instead of {self.probe_scores} on a probe): its settings, or the model's, differ."
            )

    def _near(self, found: list[float], expected: list[float], explained: ExplainedModel) -> bool:
        """Whether numbers agree up to rounding, which is coarser in half precision."""
        full = {str(explained.model.dtype).removeprefix("torch."), self.dtype} <= {"float32", "float64"}
        scale = max(1.0, *(abs(one) for one in expected)) if expected else 1.0
        return len(found) == len(expected) and all(
            abs(one - other) <= (1e-3 if full else 5e-2) * scale for one, other in zip(found, expected, strict=True)
        )

    def build(self, explained: ExplainedModel) -> AbstractMaskExplainer:
        """The network, its weights still to be loaded."""
        settings = dict(self.explainer)
        return EXPLAINERS[settings.pop("kind")](explained, **settings).eval()


def settings_digest(values: Mapping[str, Any]) -> str:
    """The sha256 of a config.json's entries, but for those that may be edited."""
    return json_sha256({name: value for name, value in values.items() if name not in _UNSIGNED})


@torch.no_grad()
def probe_scores(explained: ExplainedModel, explainer: AbstractMaskExplainer) -> list[float]:
    """The scores of the probe's tokens for the first label; for the first words, where the target is about tokens."""
    training, texts, target = explainer.training, explained.encode_probes([_PROBE]), Target.of([0])
    if explained.task.anchored:
        texts, target = explained.asked(texts, (0, len(_PROBE) // 4))
    scores = explainer.eval()(explained, explained.collate(texts), target.to(explained.device))[0].tolist()
    explainer.train(training)
    return scores


def _check_types(kind: type[ExportConfig], values: Mapping[str, Any]) -> None:
    """Refuse entries that are missing, unknown or of another type than the class has."""
    types = {field.name: field.type for field in fields(kind)}
    if different := sorted(set(types) ^ set(values)):
        raise TypeError(f"its entry {different[0]!r:.80} is missing or unknown")
    for name, value in values.items():
        if not _is_of(value, types[name]):
            raise TypeError(f"`{name}` is {value!r:.80}")
    if values["dtype"] not in (*DTYPES, "float64"):
        raise TypeError(f"`dtype` is {values['dtype']!r:.80}")
    if not isinstance(values["explainer"].get("kind"), str):
        raise TypeError("`explainer` has no kind")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of an annotated type; a float may be a whole number, and is finite."""
    if kind == list[float]:
        numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
        return numbers and all(math.isfinite(one) for one in value)
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind == int | None:
        return value is None or (type(value) is int and value > 0)
    if kind == str | None:
        return value is None or isinstance(value, str)
    return isinstance(value, dict) if kind == dict[str, Any] else type(value) is kind


def _elsewhere(label: str, place: int, labels: list[str]) -> bool:
    """Whether a label stands in a list, but not at this place."""
    return label in labels and (place >= len(labels) or labels[place] != label)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _weights_below(folder: Path) -> str:
    """The sha256 of the names and bytes of the files of weights in a folder."""
    return json_sha256({path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))})


def _reference(explained: ExplainedModel, folder: Path) -> str:
    if explained.name is None:
        raise ValueError(
            "The explained model has no `name`, so the export could not say what it explains. Save it by `merge=True`."
        )
    return os.path.relpath(explained.name, folder) if Path(explained.name).exists() else explained.name


def _probe(explained: ExplainedModel) -> list[float]:
    logits = explained.predict([explained.encode_probes([_PROBE])[0].tokens]).logits[0].flatten()
    return logits[logits.isfinite()][:_PROBED].tolist()  # a position that is no choice has none


def _labels(explained: ExplainedModel) -> list[str]:
    """The labels of a closed list; a vocabulary belongs to the tokenizer, which is compared by itself."""
    return explained.labels if explained.task.closed else []


def _without_names(task: dict[str, Any]) -> dict[str, Any]:
    """A task's settings without its labels' names: a label that was renamed is still the same one.

    The constants of a calibration are left out too: where they are measured again, they are so up to rounding, and the
    logits of the probe tell any other difference.
    """
    return {name: value for name, value in task.items() if name not in ("labels", "constants")}
