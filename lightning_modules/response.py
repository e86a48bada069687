"""Train an explainer of a language model's responses: on real ablations, by teachers, by AML's terms, or by several."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from explainer.attributor import ResponseAttributor
from explainer.evaluation.responses import ResponseComparison
from explainer.explained import ExplainedModel, ExplainedResponse, Response, responses_target
from explainer.explained.pretrained import dtype_named
from explainer.explained.sources import SourceLevel
from explainer.explainers import EXPLAINERS
from explainer.explainers.losses import additivity, prediction_destroyed, prediction_kept, soft_target, sparsity
from explainer.explainers.masking import blend
from explainer.explainers.response import AbstractResponseExplainer
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import AblationKind
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.metrics.response import LDS, Drop
from explainer.typing import Scores
from lightning_modules.base import check_precision
from lightning_modules.data.responses import LEARNED, AblatedResponses, ResponseBatch, ablated_responses, own_responses
from lightning_modules.data.text import TextExamples, data_of
from lightning_modules.explainer_training import AbstractExplainerTraining
from lightning_modules.teachers import Mixing, Teachers, check_teachers


class ResponseTraining(AbstractExplainerTraining):
    """Scores of the prompt's sources, fitted to real ablations (AT2's objective; Cohen-Wang et al., 2025) or otherwise.

    loss = additive * the mean, over the kinds of ablation, of 1 - correlation of ln p(target | sources kept) with the
                      sum of the kept sources' scores
         + matching * (1 - correlation with the teachers' standardized scores, mixed)
         + kept * CE(f(keep(a)), p) + destroyed * -log(1 - p(keep(1 - a))) + sparse * mean -log(1 - a)

    where a = sigmoid(score) of each source masks all its tokens (AML, EMNLP Findings 2024), and CE and log are means
    over the target's tokens. The texts of the data are messages of a user; the model answers them, and its own answers
    are explained.

    Args:
        explained: the language model to explain: hub id, model folder or PEFT adapter folder.
        explainer: `response` (attention gated by states) or `attention` (AT2's linear form).
        explainer_settings: arguments of that explainer, such as {width: 64}.
        dtype: of the explained model: float32, bfloat16 or float16.
        new_tokens: of the longest response.
        sources: what is taken away as one: token, word, sentence, paragraph or message.
        operator: how: delete, replace, blank or hide.
        n_masks: masks of equal size, and as many Bernoulli ones; further, each source is taken away by itself.
        spans: further targets of every training response: stretches of it, drawn at random.
        batch_tokens: the token budget of a pass that measures ablations, padding included.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
        seed: of the spans.
        additive: weight of the ablations; every weight is a number or [progress, weight] points. Without it the
            training responses are not ablated, which saves most of the time.
        teachers: methods whose scores of the sources are matched, {name: settings}, as of `MaskTraining`; so are
            `teacher_weights`, `mixing` and `matching`.
        kept: weight of the response kept by the masked sources.
        destroyed: weight of the response destroyed by their complement.
        sparse: weight of the sparsity prior.
    """

    best_by = "validation/lds"
    compared_with = ("random", "mean_attention", "input_x_gradient", "attn_lrp", "leave_one_out", "context_cite")

    def __init__(
        self,
        explained: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
        explainer: str = "response",
        explainer_settings: dict[str, Any] | None = None,
        dtype: str = "bfloat16",
        new_tokens: int = 24,
        sources: SourceLevel = "sentence",
        operator: Operator = "delete",
        n_masks: int = 32,
        spans: int = 1,
        batch_tokens: int = 8192,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
        seed: int = 0,
        additive: float | list[list[float]] = 1.0,
        teachers: dict[str, dict[str, Any] | None] | None = None,
        teacher_weights: dict[str, float] | None = None,
        mixing: Mixing = "mean",
        matching: float | list[list[float]] = 0.0,
        kept: float | list[list[float]] = 0.0,
        destroyed: float | list[list[float]] = 0.0,
        sparse: float | list[list[float]] = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        self.set_weights(additive=additive, matching=matching, kept=kept, destroyed=destroyed, sparse=sparse)
        check_teachers(teachers, matching)
        kind = EXPLAINERS.get(explainer)
        if kind is None or not issubclass(kind, AbstractResponseExplainer):
            known = [name for name, one in EXPLAINERS.items() if issubclass(one, AbstractResponseExplainer)]
            raise ValueError(f"`explainer` of responses must be one of {', '.join(known)}, got {explainer!r}.")
        self.explained = ExplainedModel.from_pretrained(
            explained, task=Response(), dtype=dtype_named(dtype), batch_tokens=batch_tokens
        )
        self.explainer = kind(self.explained, **(explainer_settings or {}))
        self.teachers = Teachers(self.explained, teachers or {}, teacher_weights, mixing)
        self.splits: dict[str, AblatedResponses] = {}
        self.agreement, self.fall = LDS(), Drop()

    @property
    def attributor(self) -> ResponseAttributor:
        return ResponseAttributor(self.explained, Amortized(self.explainer))

    def comparison(self, methods: Mapping[str, AbstractMethod], ours: str) -> ResponseComparison:
        return ResponseComparison(methods, ours, operator=self.hparams["operator"])

    def compared(self, examples: TextExamples) -> list[ExplainedResponse]:
        """The model's own responses to the test prompts, as in the training; those that have none are left out."""
        options = self.hparams
        return own_responses(self.explained, examples.texts, options["new_tokens"], options["sources"])

    def setup(self, stage: str) -> None:
        """Let the model answer, measure the ablations of its responses, and let the loaders give them.

        Raises:
            ValueError: when the run is in half or double precision.
        """
        check_precision(self.trainer)
        self.explained.to(self.trainer.strategy.root_device)  # Lightning moves the module only after this
        data, options = data_of(self.trainer), self.hparams
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            training = split == "train"
            if split not in self.splits:
                items = ablated_responses(
                    self.explained,
                    data.examples(split).texts,
                    new_tokens=options["new_tokens"],
                    level=options["sources"],
                    operator=options["operator"],
                    n_masks=options["n_masks"],
                    spans=options["spans"] if training else 0,
                    seed=options["seed"],
                    measure=not training or options["additive"] != 0,
                )
                if training:
                    items = replace(items, teachers=self._taught(items.responses))
                self.splits[split] = items
            items = self.splits[split]
            if training:
                self.explainer.longest_text = max(self.explainer.longest_text or 0, *items.lengths)
            data.annotate(split, items, items.lengths)

    def _taught(self, responses: Sequence[ExplainedResponse]) -> dict[str, list[list[float]]]:
        """Every teacher's scores of the sources of every response."""
        taught = self.teachers.scores(self.explained, [one.text for one in responses], responses_target(responses))
        return {
            label: [one.source_scores(row) for one, row in zip(responses, scores, strict=True)]
            for label, scores in taught.items()
        }

    def scored(self, batch: ResponseBatch) -> Scores:
        """Of the sources."""
        return batch.source_scores(self.explainer(self.explained, batch.tokens, batch.target))

    def losses(self, scores: Scores, batch: ResponseBatch, wanted: Collection[str]) -> dict[str, Tensor]:
        """The wanted terms of the loss, each unweighted; `scores` are those of the sources."""
        terms: dict[str, Tensor] = {}
        if "additive" in wanted:
            terms["additive"] = torch.stack([additivity(scores, *_of_kind(batch, kind)) for kind in LEARNED]).mean()
        if "matching" in wanted:
            terms["matching"] = self.teachers.matching(scores, batch, self.global_step)
        if "sparse" in wanted:
            terms["sparse"] = sparsity(scores, batch.scored)
        mask, baseline = batch.on_tokens(scores.sigmoid()), self.explained.baseline_embedding()
        if "kept" in wanted:
            answer = self.explained(batch.tokens, edit=blend(batch.tokens, mask, baseline))
            with torch.no_grad():
                wanted_answer = soft_target(self.explained(batch.tokens), batch.target)
            terms["kept"] = prediction_kept(answer, wanted_answer, batch.target)
        if "destroyed" in wanted:
            answer = self.explained(batch.tokens, edit=blend(batch.tokens, 1 - mask, baseline))
            terms["destroyed"] = prediction_destroyed(answer, batch.target)
        return terms

    @torch.no_grad()
    def validation_step(self, batch: ResponseBatch, batch_idx: int) -> None:
        """LDS over the measured masks of equal size, and drop@1, by the ablations of the validation responses."""
        scores = batch.source_scores(self.explainer(self.explained, batch.tokens, batch.target)).cpu()
        ablations = self.splits["validation"].ablations
        assert ablations is not None
        for row, i in zip(scores, batch.index, strict=True):
            measured = ablations[i]
            own, values = row[: measured.kept.shape[1]], measured.log_probabilities.double().sum(dim=1)
            half, highest = measured.kinds == AblationKind.HALF, 1 + int(own.argmax())
            self.agreement.update([measured.kept[half]], [values[half]], [own])
            self.fall.update(values[:1], values[highest : highest + 1])

    def on_validation_epoch_end(self) -> None:
        for name, metric in (("lds", self.agreement), ("drop_at_1", self.fall)):
            self.log(f"validation/{name}", metric.compute(), prog_bar=True, sync_dist=True)
            metric.reset()


def _of_kind(batch: ResponseBatch, kind: AblationKind) -> tuple[Tensor, Tensor]:
    same = (batch.kinds == kind).to(batch.effects.dtype)
    return batch.design * same[..., None], batch.effects * same
