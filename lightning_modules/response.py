"""Train an explainer of a language model's responses on what the model says when sources of the prompt are missing."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from explainer.attributor import ResponseAttributor
from explainer.evaluation.responses import ResponseComparison
from explainer.explained import ExplainedModel, ExplainedResponse, Response
from explainer.explained.pretrained import dtype_named
from explainer.explained.sources import SourceLevel
from explainer.explainers import EXPLAINERS
from explainer.explainers.losses import additivity
from explainer.explainers.response import AbstractResponseExplainer
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import AblationKind
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.metrics.response import lds
from explainer.typing import Scores
from lightning_modules.base import check_precision
from lightning_modules.data.responses import LEARNED, AblatedResponses, ResponseBatch, ablated_responses, own_responses
from lightning_modules.data.text import TextExamples, data_of
from lightning_modules.explainer_training import AbstractExplainerTraining


class ResponseTraining(AbstractExplainerTraining):
    """Additive scores of the prompt's sources, fitted to real ablations (AT2's objective; Cohen-Wang et al., 2025).

    loss = the mean, over the kinds of ablation, of 1 - correlation of ln p(target | sources kept) with the sum of the
    kept sources' scores

    The texts of the data are messages of a user; the model answers them, and its own answers are explained.

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
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        kind = EXPLAINERS.get(explainer)
        if kind is None or not issubclass(kind, AbstractResponseExplainer):
            known = [name for name, one in EXPLAINERS.items() if issubclass(one, AbstractResponseExplainer)]
            raise ValueError(f"`explainer` of responses must be one of {', '.join(known)}, got {explainer!r}.")
        self.explained = ExplainedModel.from_pretrained(
            explained, task=Response(), dtype=dtype_named(dtype), batch_tokens=batch_tokens
        )
        self.explainer = kind(self.explained, **(explainer_settings or {}))
        self.splits: dict[str, AblatedResponses] = {}
        self.agreement = MeanMetric(nan_strategy="ignore")
        self.fall = MeanMetric()

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
            if split not in self.splits:
                self.splits[split] = ablated_responses(
                    self.explained,
                    data.examples(split).texts,
                    new_tokens=options["new_tokens"],
                    level=options["sources"],
                    operator=options["operator"],
                    n_masks=options["n_masks"],
                    spans=options["spans"] if split == "train" else 0,
                    seed=options["seed"],
                )
            items = self.splits[split]
            if split == "train":
                self.explainer.longest_text = max(self.explainer.longest_text or 0, *items.lengths)
            data.annotate(split, items, items.lengths)

    def losses(self, scores: Scores, batch: ResponseBatch) -> dict[str, Tensor]:
        """1 - correlation for each kind of ablation; `scores` are those of the tokens."""
        of_sources = batch.source_scores(scores)
        return {kind.name.lower(): additivity(of_sources, *_of_kind(batch, kind)) for kind in LEARNED}

    def training_step(self, batch: ResponseBatch, batch_idx: int) -> Tensor:
        losses = self.losses(self.explainer(self.explained, batch.tokens, batch.target), batch)
        loss, share = torch.stack(list(losses.values())).mean(), self.share(len(batch))
        self.log("train/loss", share * loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        self.log_dict(
            {f"train/{name}": share * value for name, value in losses.items()}, batch_size=len(batch), sync_dist=True
        )
        return share * loss

    @torch.no_grad()
    def validation_step(self, batch: ResponseBatch, batch_idx: int) -> None:
        """LDS over the measured masks of equal size, and drop@1, by the ablations of the validation responses."""
        scores = batch.source_scores(self.explainer(self.explained, batch.tokens, batch.target)).cpu()
        for row, i in zip(scores, batch.index, strict=True):
            measured = self.splits["validation"].ablations[i]
            own, values = row[: measured.kept.shape[1]], measured.log_probabilities.double().sum(dim=1)
            half = measured.kinds == AblationKind.HALF
            self.agreement.update(lds(measured.kept[half], values[half], own))
            self.fall.update(values[0] - values[1 + int(own.argmax())])

    def on_validation_epoch_end(self) -> None:
        for name, metric in (("lds", self.agreement), ("drop_at_1", self.fall)):
            self.log(f"validation/{name}", metric.compute(), prog_bar=True, sync_dist=True)
            metric.reset()


def _of_kind(batch: ResponseBatch, kind: AblationKind) -> tuple[Tensor, Tensor]:
    same = (batch.kinds == kind).to(batch.effects.dtype)
    return batch.design * same[..., None], batch.effects * same
