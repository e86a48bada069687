"""Train a mask explainer: match teachers, AML's own losses, or both, by weights that may follow a schedule."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from explainer.attributor import Attributor
from explainer.evaluation.comparison import SUMMARY, AbstractComparison, Comparison
from explainer.explained import (
    AbstractTask,
    Attributions,
    ExplainedModel,
    PromptedClassification,
    Target,
    TokenBatch,
    ZeroShotClassification,
    load_explained,
)
from explainer.explained.pretrained import dtype_named
from explainer.explainers import EXPLAINERS, SideExplainer
from explainer.explainers.folder import load_exported
from explainer.explainers.losses import prediction_destroyed, prediction_kept, sparsity
from explainer.explainers.masking import blend
from explainer.explainers.rankings import draw_rankings, ranking_loss
from explainer.faithfulness.perturbation import Operator, check_operator
from explainer.faithfulness.set_values import drawn_set_values
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import spearman
from explainer.typing import Scores
from lightning_modules.base import check_precision, check_predicts_one
from lightning_modules.data.annotations import AnnotatedBatch, Annotations, kept_states, mixed_spans, mixed_targets
from lightning_modules.data.cached import cached_predictions
from lightning_modules.data.text import TextExamples, data_of
from lightning_modules.explainer_training import AbstractExplainerTraining
from lightning_modules.processes import gathered
from lightning_modules.schedule import Weight
from lightning_modules.teachers import Mixing, Teachers, check_teachers
from lightning_modules.validation import ValidationFaithfulness


class MaskTraining(AbstractExplainerTraining):
    """AML (EMNLP Findings 2024) and distillation of attribution methods into one forward pass.

    loss = matching * (1 - correlation with the teachers' standardized scores, mixed)
         + kept * CE(f(keep(a)), p) + destroyed * -log(1 - p_c(keep(1 - a))) + sparse * mean -log(1 - a)
         + ranking * -E[sum_k p_c(only the k highest) - p_c(without the k highest)] over rankings drawn by the scores

    Args:
        explained: the model to explain: hub id, model folder or PEFT adapter folder.
        explainer: `lora` (on the explained backbone, its weights shared), `separate` (a backbone of its own), `encoder`
            (a small encoder with a tokenizer of its own) or `side` (a narrow network on the states of the prediction's
            own pass).
        explainer_settings: arguments of that explainer, such as {rank: 16}.
        pretrained: folder of an exported explainer whose weights are the start, or what `explainer test` compares.
        teachers: methods whose scores are matched, {name: settings}, or {label: {method: name, ...settings}} where one
            method teaches with several settings; each is standardized per text. The folder of an exported explainer of
            the same model may take the place of a method's name.
        teacher_weights: {label: weight}; equal by default.
        mixing: `mean` matches the weighted mean of the teachers; `alternate` one teacher per step, in turn, its loss
            multiplied by its weight over the mean weight.
        matching: weight of matching the teachers; every weight is a number or [progress, weight] points.
        kept: weight of the prediction kept by the masked text.
        destroyed: weight of the prediction destroyed by the complement; needs probabilities, so 0 for a regression.
        sparse: weight of the sparsity prior.
        ranking: weight of the deletion curves of drawn rankings (`explainer.explainers.rankings`): tokens are really
            deleted, or taken out by `operator`, so it trains faithfulness itself.
        draws: rankings drawn per text and step, at least 2; each costs about four passes of `explained`.
        temperature: of the draws, in standard deviations of a text's scores.
        other_class: share of the training texts that are explained for a label that is not the predicted one, so
            that the explainer can be asked for any label; of tagged words and of answers, for a random span.
        keep_states: of a `side` explainer: compute the explained model's states of the training texts once and keep
            them in half precision (a token takes layers + 1 times hidden size), so that an epoch costs the side network
            alone.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
        seed: of the choice of the other labels.
        prompt: what `explained` is asked, where it is a language model: template or messages, labels, and optionally
            shots and calibration.
        zero_shot: what `explained` is asked, where it is a model of natural language inference: labels, and optionally
            hypothesis_template and multi_label.
        batch_tokens: token budget of a pass of `explained` for teachers, states and metrics.
        dtype: of the explained model's weights: float32, bfloat16 or float16; teachers that take gradients want
            float32. What is trained is in float32.
        metric: what `best.ckpt` is the best by on the validation texts: `faithfulness`
            (AOPC-comprehensiveness minus AOPC-sufficiency), or the name of a metric, such as `log_odds`.
        operator: how `ranking`, the validation metrics and `explainer test` take tokens out: `delete`, `replace`,
            `blank` or `hide`. By default `ranking` deletes, and each metric has its own.
    """

    def __init__(
        self,
        explained: str = "checkpoints/demo-classifier",
        explainer: str = "lora",
        explainer_settings: dict[str, Any] | None = None,
        pretrained: str | None = None,
        teachers: dict[str, dict[str, Any] | None] | None = None,
        teacher_weights: dict[str, float] | None = None,
        mixing: Mixing = "mean",
        matching: float | list[list[float]] = 1.0,
        kept: float | list[list[float]] = 0.0,
        destroyed: float | list[list[float]] = 0.0,
        sparse: float | list[list[float]] = 0.0,
        ranking: float | list[list[float]] = 0.0,
        draws: int = 4,
        temperature: float = 0.3,
        other_class: float = 0.0,
        keep_states: bool = False,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
        seed: int = 0,
        prompt: dict | None = None,  # type: ignore[type-arg] # jsonargparse would read strings of `Any` as YAML
        batch_tokens: int = 4096,
        dtype: str = "float32",
        metric: str = SUMMARY,
        zero_shot: dict[str, Any] | None = None,
        operator: Operator | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        self.set_weights(matching=matching, kept=kept, destroyed=destroyed, sparse=sparse, ranking=ranking)
        if explainer not in EXPLAINERS:
            raise ValueError(f"`explainer` must be one of {', '.join(EXPLAINERS)}, got {explainer!r}.")
        if keep_states and (explainer != "side" or kept or destroyed):
            raise ValueError(
                "`keep_states` is for `explainer: side`, trained without `kept` and `destroyed`: leave it out."
            )
        if draws < 2:
            raise ValueError(f"`draws` must be at least 2, since draws are compared with each other, got {draws}.")
        check_operator(operator)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        check_teachers(teachers, matching)
        if prompt is not None and zero_shot is not None:
            raise ValueError("`prompt` asks a language model, `zero_shot` a classifier of pairs: leave one out.")
        task: AbstractTask | None = None if prompt is None else PromptedClassification.of(prompt)
        task = task if zero_shot is None else ZeroShotClassification.of(**zero_shot)
        self.explained = load_explained(explained, dtype=dtype_named(dtype), task=task, batch_tokens=batch_tokens)
        check_task(self.explained, other_class, kept, destroyed)
        self.explainer = EXPLAINERS[explainer](self.explained, **(explainer_settings or {}))
        self.explainer.float()  # half precision would lose small steps
        for parameter in self.explainer.trained(self.explained).values():  # adapters are in the explained model
            parameter.data = parameter.data.float()
        self.teachers = Teachers(self.explained, teachers or {}, teacher_weights, mixing)
        if pretrained is not None:
            load_exported(Path(pretrained), self.explained, self.explainer)
        self.annotations: dict[str, Annotations] = {}
        self.faithfulness = ValidationFaithfulness(self.explained.task, metric, operator)
        self.best_by, self.higher_is_better = f"validation/{metric}", self.faithfulness.higher_is_better
        # Neither matching nor ranking says where the zero of the scores is; a mask's losses do.
        self.free_zero = not (kept or destroyed or sparse)
        self.validation_scores: list[tuple[int, Tensor]] = []  # of each validation text, with the label that was asked
        # Of each teacher: the mean over the texts on which the correlation is defined.
        self.spearman = nn.ModuleList(MeanMetric(nan_strategy="ignore") for _ in self.teachers.methods)

    @property
    def attributor(self) -> Attributor:
        return Attributor(self.explained, Amortized(self.explainer))

    def comparison(self, methods: Mapping[str, AbstractMethod], ours: str) -> AbstractComparison[Any]:
        return Comparison(methods, ours, operator=self.hparams["operator"])

    def setup(self, stage: str) -> None:
        """Annotate the splits, once, and let the loaders give the annotated texts.

        Raises:
            ValueError: when the run is in half or double precision.
        """
        check_precision(self.trainer)
        self.explained.to(self.trainer.strategy.root_device)  # Lightning moves the module only after this
        data = data_of(self.trainer)
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            if split not in self.annotations:
                self.annotations[split] = self._annotated(data.examples(split), training=split == "train")
            data.annotate(split, self.annotations[split])

    def _annotated(self, examples: TextExamples, training: bool) -> Annotations:
        texts = self.explained.encode(examples.texts, examples.text_pairs)
        readout = cached_predictions(self.explained, texts)
        other = self.hparams["other_class"] if training else 0.0
        if self.explained.task.anchored:
            texts, target = mixed_spans(self.explained, texts, readout, other, self.hparams["seed"])
        else:
            target = mixed_targets(readout, other, self.hparams["seed"])
        if training:
            self.explainer.longest_text = max(self.explainer.longest_text or 0, *map(len, texts))
        states = kept_states(self.explained, texts) if self.hparams["keep_states"] and training else None
        with self.trainer.precision_plugin.forward_context():  # teachers run in the trainer's precision
            scores = self.teachers.scores(self.explained, texts, target)
        return Annotations(self.explained, texts, readout, target, scores, states)

    def forward(self, batch: TokenBatch, target: Target, states: Tensor | None = None) -> Scores:
        """Scores (batch, seq); `states` (batch, seq, layers + 1, hidden) save a side explainer the model's pass."""
        if states is None:
            return self.explainer(self.explained, batch, target)
        assert isinstance(self.explainer, SideExplainer)
        return self.explainer.scoring(batch, states.unbind(dim=2))(target)

    def scored(self, batch: AnnotatedBatch) -> Scores:
        return self(batch.tokens, batch.target, batch.states)

    def losses(self, scores: Scores, batch: AnnotatedBatch, wanted: Collection[str]) -> dict[str, Tensor]:
        """The wanted terms of the loss, each unweighted."""
        terms: dict[str, Tensor] = {}
        if "matching" in wanted:
            terms["matching"] = self.teachers.matching(scores, batch, self.global_step)
        if "sparse" in wanted:
            terms["sparse"] = sparsity(scores, batch.tokens.scorable)
        if "ranking" in wanted:
            terms["ranking"] = self._ranking(scores, batch)
        mask, baseline = scores.sigmoid(), self.explained.baseline_embedding()
        if "kept" in wanted:
            answer = self.explained(batch.tokens, edit=blend(batch.tokens, mask, baseline))
            assert batch.wanted is not None  # `check_task`
            terms["kept"] = prediction_kept(answer, batch.wanted, batch.target)
        if "destroyed" in wanted:
            answer = self.explained(batch.tokens, edit=blend(batch.tokens, 1 - mask, baseline))
            terms["destroyed"] = prediction_destroyed(answer, batch.target)
        return terms

    def _ranking(self, scores: Scores, batch: AnnotatedBatch) -> Tensor:
        """The loss of rankings that are drawn by the scores, each measured by taking tokens out."""
        tokens, temperature = batch.tokens, self.hparams["temperature"]
        operator: Operator = self.hparams["operator"] or "delete"
        drawn = draw_rankings(scores, tokens.scorable, self.hparams["draws"], temperature)
        values, sets = drawn_set_values(self.explained, batch.texts, tokens, batch.target, drawn, operator=operator)
        return ranking_loss(scores, tokens.scorable, sets, values, temperature)

    @torch.no_grad()
    def validation_step(self, batch: AnnotatedBatch, batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):  # an exported explainer runs in full precision
            scores = [row.cpu() for row in batch.tokens.split(self(batch.tokens, batch.target))]
            self.faithfulness.update(self.explained, Attributions(batch.texts, batch.target.to("cpu"), scores))
        asked = batch.target.choices[:, 0].tolist()
        own = [row[text.scorable] for row, text in zip(scores, batch.texts, strict=True)]
        self.validation_scores += zip(asked, own, strict=True)
        for metric, teacher in zip(self.spearman, batch.teachers.values(), strict=True):
            rows = zip(batch.texts, scores, batch.tokens.split(teacher), strict=True)
            values = [spearman(row[text.scorable], other.cpu()[text.scorable]) for text, row, other in rows]
            assert isinstance(metric, MeanMetric)
            metric.update(torch.stack(values).to(self.device))

    def on_validation_epoch_end(self) -> None:
        values = self.faithfulness.compute()
        for label, metric in zip(self.teachers.methods, self.spearman, strict=True):
            assert isinstance(metric, MeanMetric)
            values[f"spearman_{label}"] = metric.compute()
            metric.reset()
        for name, value in values.items():  # the same in all processes
            self.log(f"validation/{name}", value, prog_bar=f"validation/{name}" == self.best_by, sync_dist=True)
        self._set_zero()

    def _set_zero(self) -> None:
        """Let the median token of the validation texts have the score 0, so that signs can be shown."""
        of_texts, self.validation_scores = self.validation_scores, []
        if not self.free_zero or self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        by_label: dict[int, list[Tensor]] = {}
        for label, scores in (text for own in gathered(of_texts) for text in own if len(text[1])):
            by_label.setdefault(label, []).append(scores)
        if by_label:
            self.explainer.set_zero({label: torch.cat(scores) for label, scores in by_label.items()})


def check_task(explained: ExplainedModel, other_class: float, kept: Weight, destroyed: Weight) -> None:
    """Refuse what cannot be trained for the explained model's task.

    Raises:
        ValueError: with the reason, and the way out.
    """
    check_predicts_one(explained)
    if explained.task.link == "identity" and destroyed != 0:
        raise ValueError(
            "`destroyed` needs the target's probability, and `explained` predicts a value (a regression): set its "
            "weight to 0; `kept` works."
        )
    if not 0 <= other_class <= 1:
        raise ValueError(f"`other_class` is a share of the texts, from 0 to 1, got {other_class}.")
    if explained.task.anchored:
        if kept != 0 or destroyed != 0:
            raise ValueError(
                f"`kept` and `destroyed` are losses of labels, and the task of `explained` is {explained.task.name!r}: "
                "set their weights to 0, and match teachers."
            )
        return
    if other_class and len(explained.labels) < 2:
        raise ValueError("`other_class` needs a second label, and `explained` has one output: set it to 0.")
