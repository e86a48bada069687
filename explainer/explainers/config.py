"""config.json of an exported explainer: the network, and the model that it explains."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer

CONFIG = "config.json"
MERGED = "explained"
_PROBE = "The plot is thin , but the acting is wonderful ."


@dataclass(frozen=True)
class ExportConfig:
    """What is needed to load an exported explainer, and to notice that it is loaded onto the wrong model.

    Attributes:
        explainer: `kind` of the network, and its settings.
        explained_model: hub id, or a folder relative to the export's, so that the two can move together; `explained`
            where the export holds it itself.
        baseline_token: that of the explained model in training.
        labels: of the explained model, in the order of their indices.
        tokenizer_sha256: of the tokenizer's whole pipeline.
        probe_logits: the explained model's logits for a fixed sentence.
        longest_text: tokens of the longest text that the explainer was trained on, where that is known.
        task: settings of the explained model's task; exports of before there were several tasks have none.
        amortex: version of this format.
        model_type: how transformers knows such a config.json.
    """

    explainer: dict[str, Any]
    explained_model: str
    baseline_token: str
    labels: list[str]
    tokenizer_sha256: str
    probe_logits: list[float]
    longest_text: int | None = None
    task: dict[str, Any] | None = None
    amortex: int = 1
    model_type: str = "amortex"

    @classmethod
    def of(
        cls, explained: ExplainedModel, explainer: AbstractMaskExplainer, folder: Path, merged: bool = False
    ) -> "ExportConfig":
        """The configuration of an explainer.

        Args:
            folder: of the export.
            merged: whether the folder holds the explained model too.

        Raises:
            ValueError: when the explained model has no name to refer to, and is not in the folder.
        """
        return cls(
            explainer={"kind": explainer.kind, **explainer.settings},
            explained_model=MERGED if merged else _reference(explained, folder),
            baseline_token=str(explained.tokenizer.convert_ids_to_tokens(explained.baseline_token_id)),
            labels=explained.labels,
            tokenizer_sha256=explained.text.fingerprint,
            probe_logits=[round(value, 4) for value in _probe(explained)],
            longest_text=explainer.longest_text,
            task=explained.task.settings,
        )

    def write(self, folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ExportConfig":
        """The configuration in a folder.

        Raises:
            ValueError: naming the file, when it is missing, broken or of something else.
        """
        try:
            config = cls(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
            texts = (config.explained_model, config.baseline_token, config.tokenizer_sha256, config.explainer["kind"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("an entry is no string")
            if not isinstance(config.longest_text, int | None):
                raise TypeError("`longest_text` is no whole number")
            if not isinstance(config.task, dict | None):
                raise TypeError("`task` is no mapping")
            torch.tensor(config.probe_logits, dtype=torch.float32)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{str(folder)!r} is no exported explainer: its {CONFIG} is missing, broken or of something else "
                f"({error}). Export one by `explainer export --ckpt ... --output DIR`."
            ) from error
        return config

    def model_of(self, folder: Path) -> str:
        """The explained model as it is found from the export's own folder."""
        path = folder / self.explained_model
        return str(path.resolve()) if path.exists() else self.explained_model

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
        found, expected = torch.tensor(_probe(explained)), torch.tensor(self.probe_logits)
        if found.shape != expected.shape or not torch.allclose(found, expected, atol=0.05, rtol=0.02):
            raise ValueError(
                f"{name!r} does not predict what the model this explainer was trained for predicts (logits "
                f"{found.tolist()} instead of {expected.tolist()} on a probe). Name the right model by `model`."
            )
        wanted = _without_names(self.task or explained.task.settings)
        if (given := _without_names(explained.task.settings)) != wanted:
            raise ValueError(
                f"The task of {name!r} is {given}, and this explainer was trained for {wanted}. Name the right model "
                "by `model`, or pass the right `task`."
            )

    def build(self, explained: ExplainedModel) -> AbstractMaskExplainer:
        """The network, its weights still to be loaded.

        Raises:
            ValueError: when there is no such kind of network, or it has no such setting.
        """
        settings = dict(self.explainer)
        kind = settings.pop("kind")
        if kind not in EXPLAINERS:
            raise ValueError(f"{CONFIG} names an explainer of kind {kind!r}; there are {', '.join(EXPLAINERS)}.")
        try:
            return EXPLAINERS[kind](explained, **settings).eval()
        except TypeError as error:
            raise ValueError(f"{CONFIG} gives the {kind} explainer settings it has not: {error}.") from error


def _reference(explained: ExplainedModel, folder: Path) -> str:
    if explained.name is None:
        raise ValueError(
            "The explained model has no `name`, so the export could not say what it explains. Save it by `merge=True`."
        )
    return os.path.relpath(explained.name, folder) if Path(explained.name).exists() else explained.name


def _probe(explained: ExplainedModel) -> list[float]:
    return explained.predict([explained.encode([_PROBE])[0].tokens]).logits[0].flatten().tolist()


def _without_names(task: dict[str, Any]) -> dict[str, Any]:
    """A task's settings without its labels' names: a label that was renamed is still the same one."""
    return {name: value for name, value in task.items() if name != "labels"}
