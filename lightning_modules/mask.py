"""Train a mask explainer: match teachers, AML's own losses, or both, by weights that may follow a schedule."""

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from explainer.attributor import Attributor
from explainer.explained import EncodedText, ExplainedModel, TokenBatch
from explainer.explained.batch import pad
from explainer.explained.passes import token_budgeted
from explainer.explainers import EXPLAINERS, SideExplainer
from explainer.explainers.folder import is_attributor, load_exported
from explainer.explainers.losses import (
    aim_of_kept,
    correlation_matching,
    prediction_destroyed,
    prediction_kept,
    sparsity,
    standardized,
)
from explainer.explainers.side import states_of
from explainer.faithfulness.perturbation import blend, curves
from explainer.methods import METHODS, AbstractMethod
from explainer.methods.loading import methods_named
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.exported import Exported
from explainer.metrics import AOPCComprehensiveness, AOPCSufficiency, spearman
from explainer.storage.cache import cached_probabilities, cached_scores
from explainer.typing import Scores
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextData, TextExamples
from lightning_modules.schedule import Weight, check_weight, weight_at


class MaskTraining(TrainingModule):
    """AML (EMNLP Findings 2024) and distillation of attribution methods into one forward pass.

    loss = matching * (1 - correlation with the teachers' standardized scores, mixed)
         + kept * CE(f(keep(a)), p) + destroyed * -log(1 - p_c(keep(1 - a))) + sparse * mean -log(1 - a)

    Args:
        explained: the model to explain: hub id, model folder or PEFT adapter folder.
        explainer: `lora` (on the explained backbone, its weights shared), `separate` (a backbone of its own) or `side`
            (a narrow network on the states of the prediction's own pass).
        explainer_settings: arguments of that explainer, such as {rank: 16}.
        pretrained: folder of an exported explainer whose weights are the start, or what `explainer test` compares.
        teachers: methods whose scores are matched, {name: settings}, or {label: {method: name, ...settings}} where one
            method teaches with several settings; each is standardized per text. The folder of an exported explainer of
            the same model may stand for a method's name.
        teacher_weights: {label: weight}; all alike by default.
        mixing: `mean` matches the weighted mean of the teachers; `alternate` one teacher a step, in turn, its loss
            multiplied by its weight over the mean weight.
        matching: weight of matching the teachers; every weight is a number or [progress, weight] points.
        kept: weight of the prediction kept by the masked text.
        destroyed: weight of the prediction destroyed by the complement.
        sparse: weight of the sparsity prior.
        other_class: share of the training texts that are explained for a class that is not the predicted one, so
            that the explainer can be asked for any class.
        keep_states: of a `side` explainer: compute the explained model's states of the training texts once and keep
            them in half precision (a token takes layers + 1 times hidden size), so that an epoch costs the side network
            alone.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
        seed: of the choice of the other classes.
    """

    def __init__(
        self,
        explained: str = "checkpoints/demo-classifier",
        explainer: str = "lora",
        explainer_settings: dict[str, Any] | None = None,
        pretrained: str | None = None,
        teachers: dict[str, dict[str, Any] | None] | None = None,
        teacher_weights: dict[str, float] | None = None,
        mixing: Literal["mean", "alternate"] = "mean",
        matching: float | list[list[float]] = 1.0,
        kept: float | list[list[float]] = 0.0,
        destroyed: float | list[list[float]] = 0.0,
        sparse: float | list[list[float]] = 0.0,
        other_class: float = 0.0,
        keep_states: bool = False,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
        seed: int = 0,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        self.weights: dict[str, Weight] = {"matching": matching, "kept": kept, "destroyed": destroyed, "sparse": sparse}
        for name, weight in self.weights.items():
            check_weight(name, weight)
        if explainer not in EXPLAINERS:
            raise ValueError(f"`explainer` must be one of {', '.join(EXPLAINERS)}, got {explainer!r}.")
        if keep_states and (explainer != "side" or kept or destroyed):
            raise ValueError("`keep_states` is for `explainer: side`, trained by matching alone: leave it out.")
        self.shares = teacher_shares(list(teachers or {}), teacher_weights)
        if mixing not in ("mean", "alternate"):
            raise ValueError(f"`mixing` must be `mean` or `alternate`, got {mixing!r}.")
        if not teachers and matching != 0:
            raise ValueError("`matching` has a weight but there are no `teachers`. Name some, or set `matching: 0`.")
        self.explained = ExplainedModel.from_pretrained(explained)
        self.explainer = EXPLAINERS[explainer](self.explained, **(explainer_settings or {}))
        self.teachers = {
            label: _teacher(label, given or {}, self.explained) for label, given in (teachers or {}).items()
        }
        if pretrained is not None:
            load_exported(Path(pretrained), self.explained, self.explainer)
        self.known: dict[str, _Known] = {}
        self.aopc_comprehensiveness, self.aopc_sufficiency = AOPCComprehensiveness(), AOPCSufficiency()

    @property
    def attributor(self) -> Attributor:
        return Attributor(self.explained, Amortized(self.explainer))

    def setup(self, stage: str) -> None:
        """Predictions of the explained model and the teachers' scores, once, from the cache where it has them."""
        data: TextData = getattr(self.trainer, "datamodule")  # noqa: B009 - Trainer sets it late
        splits = {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ())
        for split in splits:
            if split not in self.known:
                self.known[split] = self._know(data, split)

    def _know(self, data: TextData, split: str) -> "_Known":
        examples = data.examples(split)
        texts = self.explained.encode(examples.texts, examples.text_pairs)
        probabilities = cached_probabilities(self.explained, texts)
        share = self.hparams["other_class"] if split == "train" else 0.0
        target = _mixed_targets(probabilities, share, self.hparams["seed"])
        if split == "train":
            self.explainer.longest_text = max(self.explainer.longest_text or 0, *map(len, texts))
        states = kept_states(self.explained, texts) if self.hparams["keep_states"] and split == "train" else None
        for teacher in self.teachers.values():
            if isinstance(teacher, Exported):
                teacher.attributor.to(self.explained.device)
        with self.trainer.precision_plugin.forward_context():  # teachers run in the trainer's precision
            scores = {
                label: cached_scores(teacher, self.explained, texts, target) for label, teacher in self.teachers.items()
            }
        return _Known(texts, probabilities, target, scores, states)

    def forward(self, batch: TokenBatch, target: Tensor, states: list[Tensor] | None = None) -> Scores:
        labels = F.one_hot(target, len(self.explained.labels)).float()
        if states is None:
            return self.explainer(self.explained, batch, labels)
        assert isinstance(self.explainer, SideExplainer)
        return self.explainer.scoring(batch, states)(labels)

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        known = self.known["train"].rows(examples.index, self.explained)
        scores = self(known.batch, known.target, known.states)
        progress = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        weights = {name: weight_at(weight, progress) for name, weight in self.weights.items()}
        if not any(weights.values()):
            raise ValueError(
                f"Every loss weight is 0 at progress {progress:.2f} of the training: nothing to learn from."
            )
        losses = self.losses(scores, known, {name for name, weight in weights.items() if weight > 0})
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples))
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(examples))
        self.log_dict(self._agreement(scores.detach(), known), batch_size=len(examples))
        return loss

    def _matching(self, scores: Scores, known: "_Rows") -> Tensor:
        """1 - correlation with the teachers' mean, or with the one whose turn it is."""
        scorable = known.batch.scorable
        if self.hparams["mixing"] == "mean":
            mixed = torch.stack([self.shares[label] * theirs for label, theirs in known.teachers.items()]).sum(dim=0)
            return correlation_matching(scores, mixed, scorable)
        turn = list(known.teachers)[self.global_step % len(known.teachers)]
        weight = self.shares[turn] * len(self.shares)
        return weight * correlation_matching(scores, known.teachers[turn], scorable)

    def _agreement(self, scores: Scores, known: "_Rows") -> dict[str, Tensor]:
        """Correlation with each teacher, averaged over the texts."""
        return {
            f"train/agreement_{label}": 1 - correlation_matching(scores, theirs, known.batch.scorable)
            for label, theirs in known.teachers.items()
        }

    def losses(self, scores: Scores, known: "_Rows", wanted: set[str]) -> dict[str, Tensor]:
        """The wanted terms of the loss, each unweighted."""
        terms: dict[str, Tensor] = {}
        scorable = known.batch.scorable
        if "matching" in wanted:
            terms["matching"] = self._matching(scores, known)
        if "sparse" in wanted:
            terms["sparse"] = sparsity(scores, scorable)
        mask, baseline = scores.sigmoid(), self.explained.baseline_embedding()
        if "kept" in wanted:
            logits = self.explained(known.batch, edit=blend(known.batch, mask, baseline))
            terms["kept"] = prediction_kept(logits, known.aim)
        if "destroyed" in wanted:
            logits = self.explained(known.batch, edit=blend(known.batch, 1 - mask, baseline))
            terms["destroyed"] = prediction_destroyed(logits, known.target)
        return terms

    @torch.no_grad()
    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        known = self.known["validation"]
        rows = known.rows(examples.index, self.explained)
        with torch.autocast(self.device.type, enabled=False):  # what is exported runs in full precision
            scores = rows.batch.split(self(rows.batch, rows.target))
            curve = curves(self.explained, [known.texts[i] for i in examples.index], scores, rows.target)
        self.aopc_comprehensiveness.update(curve.whole, curve.removed)
        self.aopc_sufficiency.update(curve.whole, curve.kept)
        for teacher, theirs in known.scores.items():
            pairs = [
                (score.cpu(), theirs[i], known.texts[i].scorable)
                for score, i in zip(scores, examples.index, strict=True)
            ]
            values = torch.stack([spearman(mine[s], other[s]) for mine, other, s in pairs])
            self.log(f"validation/spearman_{teacher}", values.nanmean(), batch_size=len(examples))

    def on_validation_epoch_end(self) -> None:
        comprehensiveness, sufficiency = self.aopc_comprehensiveness.compute(), self.aopc_sufficiency.compute()
        self.log("validation/aopc_comprehensiveness", comprehensiveness)
        self.log("validation/aopc_sufficiency", sufficiency)
        self.log("validation/faithfulness", comprehensiveness - sufficiency, prog_bar=True)
        self.aopc_comprehensiveness.reset()
        self.aopc_sufficiency.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["longest_text"] = self.explainer.longest_text

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.explainer.longest_text = checkpoint.get("longest_text")

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        """The explainer is one of the methods that the callback `MethodComparison` compares."""


class _Rows:
    """A batch of known texts on the explained model's device."""

    def __init__(
        self,
        batch: TokenBatch,
        target: Tensor,
        aim: Tensor,
        teachers: dict[str, Tensor],
        states: list[Tensor] | None = None,
    ) -> None:
        self.batch, self.target, self.aim, self.teachers, self.states = batch, target, aim, teachers, states


class _Known:
    """A split's texts with all that the frozen model and the teachers say of them."""

    def __init__(
        self,
        texts: list[EncodedText],
        probabilities: Tensor,
        target: Tensor,
        scores: dict[str, list[Tensor]],
        states: list[Tensor] | None = None,
    ) -> None:
        self.texts, self.probabilities, self.target, self.scores = texts, probabilities, target, scores
        self.states = states

    def rows(self, index: list[int], explained: ExplainedModel) -> _Rows:
        batch = explained.collate([self.texts[i] for i in index])
        target, probabilities = self.target[index], self.probabilities[index]
        aim = aim_of_kept(probabilities, target)
        scorable, device = batch.scorable.cpu(), explained.device
        teachers = {
            label: standardized(pad([scores[i] for i in index], 0.0), scorable).to(device)
            for label, scores in self.scores.items()
        }
        if self.states is None:
            return _Rows(batch, target.to(device), aim.to(device), teachers)
        states = list(pad_sequence([self.states[i] for i in index], batch_first=True).to(device).unbind(dim=2))
        return _Rows(batch, target.to(device), aim.to(device), teachers, states)


def kept_states(explained: ExplainedModel, texts: list[EncodedText]) -> list[Tensor]:
    """What a side explainer reads of each text (tokens, layers + 1, hidden), in half precision, on the CPU."""
    kept = [torch.empty(0)] * len(texts)
    chunks = token_budgeted([len(text) for text in texts], explained.batch_tokens)
    for chunk in track(chunks, "states"):
        batch = explained.collate([texts[i] for i in chunk])
        states = torch.stack(states_of(explained, batch)[1], dim=2).half().cpu()
        for i, rows in zip(chunk, states, strict=True):
            kept[i] = rows[: len(texts[i])].clone()
    return kept


def _teacher(label: str, settings: dict[str, Any], explained: ExplainedModel) -> AbstractMethod:
    """The method of that label, or the exported explainer of the same model in the folder that stands for it."""
    name = settings.get("method", label)
    if name in METHODS or not is_attributor(name):
        return methods_named({label: settings})[label]
    assert explained.name is not None
    return Exported.load(name, explained.name, explained)


def teacher_shares(labels: list[str], weights: dict[str, float] | None) -> dict[str, float]:
    """Each teacher's share of the whole.

    >>> teacher_shares(["sig", "attn_lrp"], {"sig": 3.0, "attn_lrp": 1.0})
    {'sig': 0.75, 'attn_lrp': 0.25}

    Raises:
        ValueError: when the weights are not one for each teacher, or not positive.
    """
    given = dict.fromkeys(labels, 1.0) if weights is None else weights
    if set(given) != set(labels):
        raise ValueError(f"`teacher_weights` must have one weight for each of {labels}, got {sorted(given)}.")
    if any(weight <= 0 for weight in given.values()):
        raise ValueError(f"`teacher_weights` must be positive, got {given}: leave a teacher out instead.")
    return {label: given[label] / sum(given.values()) for label in labels}


def _mixed_targets(probabilities: Tensor, share: float, seed: int) -> Tensor:
    """The predicted class, but for a `share` of the texts one of the others, drawn evenly."""
    predicted = probabilities.argmax(dim=1)
    generator = torch.Generator().manual_seed(seed)
    step = torch.randint(1, probabilities.shape[1], predicted.shape, generator=generator)
    other = torch.rand(predicted.shape, generator=generator) < share
    return torch.where(other, (predicted + step) % probabilities.shape[1], predicted)
