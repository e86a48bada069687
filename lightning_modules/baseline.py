"""Train the diffusion that RPI's baselines are drawn from (`explainer.methods.rpi.baselines.learned`)."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from explainer.explained import ExplainedModel, PromptedClassification
from explainer.explained.upper_layers import LayerAttention, UpperLayers, layer_index
from explainer.explained.weights import Shapes, check_sizes
from explainer.explainers.losses import additivity, prediction_destroyed
from explainer.methods import RPI
from explainer.methods.rpi.baselines import AttentionState, record_attention
from explainer.methods.rpi.baselines.learned import Learned, drawn
from explainer.methods.rpi.diffusion import AttentionDiffusion, Condition
from explainer.methods.rpi.diffusion.attention import centred
from explainer.methods.rpi.figure import attention_figure
from explainer.methods.subset_regression import SubsetEffects, SubsetRegression
from explainer.storage.provenance import digest_of
from explainer.typing import Scores
from lightning_modules.base import TrainingModule, check_precision, check_predicts_one
from lightning_modules.data.attention import (
    AttentionStore,
    ReferenceAnnotations,
    ReferenceAttention,
    ReferenceBatch,
    scale_of,
)
from lightning_modules.data.cached import cached_effects
from lightning_modules.data.text import TextExamples, data_of
from lightning_modules.loggers import log_figure
from lightning_modules.sampling import RIVALS, neutrality, rpi_faithfulness, sample_checks
from lightning_modules.schedule import check_weight

TAG = "validation_faithfulness"


class BaselineTraining(TrainingModule):
    """Attention of reference inputs, as a diffusion; and baselines from which the model learns nothing.

    loss = denoising * || v - v_hat ||^2 over valid entries
         + neutrality * KL(f(x; A := B) || p_ref)
           (with `objective: class` this is -log(1 - f_c(x; A := B)), c the predicted label)
         + additivity * (1 - correlation of the sums of RPI's scores from B over subsets of tokens with the measured
                         effects of deleting the subsets, or keeping them alone, on the log-odds of c)

    B is a sample as RPI draws it, DDIM included, and gradients pass through all of it (Clark et al., Directly
    Fine-Tuning Diffusion Models on Differentiable Rewards, ICLR 2024); p_ref is the prediction for the text with all of
    its scorable tokens replaced. The last term is the sufficiency and comprehensiveness of RPI's own scores, made
    differentiable.

    Args:
        explained: the model whose attention it is: hub id, model folder or PEFT adapter folder.
        layers: its blocks, negative from the end; one diffusion of them all.
        n_variants: reference inputs per text: all tokens replaced, and n_variants - 1 random subsets.
        denoising: weight of the denoising loss.
        neutrality: weight of the neutrality loss; 0 leaves it out.
        additivity: weight of the loss on the faithfulness of RPI's scores; 0 leaves it out.
        reading: settings of RPI (formula, rows, n_steps) that the baselines are made for: those of the additivity loss,
            of the validation, and the defaults of the exported folder; RPI's own defaults where nothing is given.
        n_subsets: random subsets per text in the additivity loss.
        objective: of the neutrality loss: the prediction for the reference input (`reference`), or anything but the
            label that the text has (`class`).
        decay: of the weights' exponential moving average, which is what is sampled from and exported.
        n_steps: of DDIM, when sampling.
        start: t / T that sampling starts from.
        n_texts: validation texts on which RPI is measured with samples, and with Gaussian baselines.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
        seed: of subsets, noise and t.
        prompt: what `explained` is asked, where it is a language model: template or messages, labels, and optionally
            shots and calibration.
        diffusion: further settings of `AttentionDiffusion` (width, depth, schedule, prediction ...).
    """

    best_by = f"{TAG}/learned"

    def __init__(
        self,
        explained: str = "checkpoints/demo-classifier",
        layers: list[int] = [-1],  # noqa: B006 - the CLI shows it; never changed
        n_variants: int = 2,
        denoising: float = 1.0,
        neutrality: float = 1.0,
        additivity: float = 0.0,
        reading: dict[str, Any] | None = None,
        n_subsets: int = 32,
        objective: Literal["reference", "class"] = "reference",
        decay: float = 0.995,
        n_steps: int = 4,
        start: float = 1.0,
        n_texts: int = 50,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
        seed: int = 0,
        prompt: dict[str, Any] | None = None,
        **diffusion: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        if objective not in ("reference", "class"):
            raise ValueError(f"`objective` must be `reference` or `class`, got {objective!r}.")
        if n_variants < 1 or not 0 <= decay < 1:
            raise ValueError(f"`n_variants` must be at least 1 and `decay` in [0, 1), got {n_variants} and {decay}.")
        self.weights = {"denoising": denoising, "neutrality": neutrality, "additivity": additivity}
        for name, weight in self.weights.items():
            check_weight(name, weight)
        if not any(self.weights.values()):
            raise ValueError(f"The losses' weights must not all be 0, got {self.weights}.")
        task = None if prompt is None else PromptedClassification.of(prompt)
        self.explained = ExplainedModel.from_pretrained(explained, task=task)
        check_predicts_one(self.explained)
        if objective == "class" and self.explained.task.link == "identity":
            raise ValueError(
                "`objective: class` needs probabilities, and `explained` predicts a value (a regression): use "
                "`reference`."
            )
        self.layers = tuple(sorted({layer_index(self.explained, layer) for layer in layers}))
        config = self.explained.backbone.config
        self.diffusion = AttentionDiffusion(
            list(self.layers), config.num_attention_heads, config.hidden_size, **diffusion
        )
        self.average = copy.deepcopy(self.diffusion).requires_grad_(False)
        self.rpi_settings: dict[str, Any] = {"n_baselines": 1, **(reading or {}), "layers": self.layers}
        self.rpi = RPI(**self.rpi_settings)
        self.annotations: dict[str, ReferenceAnnotations] = {}
        self.of_others: dict[str, float] = {}

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        prefix = "diffusion."
        sizes = AttentionDiffusion.sizes({n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)})
        # The noise schedule is no parameter, so it is not in the checkpoint.
        compared = set(settings) & set(sizes) - {"n_timesteps"}
        check_sizes(settings, {name: sizes[name] for name in compared})

    @property
    def baseline(self) -> Learned:
        """The sampler as it is now, of the averaged weights."""
        digest, tokenizer = digest_of(self.average.state_dict())[:16], self.explained.text.fingerprint
        sampling = {"n_steps": self.hparams["n_steps"], "start": self.hparams["start"]}
        return Learned(self.average.eval(), digest, tokenizer, rpi_settings=self.hparams["reading"] or {}, **sampling)

    def setup(self, stage: str) -> None:
        """Annotate the splits, once, and let the loaders give the annotated texts.

        Raises:
            ValueError: when several devices are to train, or in half or double precision.
        """
        check_precision(self.trainer)
        if stage == "fit" and self.trainer.world_size > 1:
            raise ValueError(
                "A baseline is trained on one device: its noise is drawn for a whole batch, and its losses are means "
                "over the attention of a whole batch. Give `--trainer.devices 1`."
            )
        self.explained.to(self.trainer.strategy.root_device)  # Lightning moves the module only after this
        data = data_of(self.trainer)
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            if split not in self.annotations:
                self.annotations[split] = self._annotated(data.examples(split), training=split == "train")
            data.annotate(split, self.annotations[split])
        if stage == "fit":
            store = self.annotations["train"].store
            scale = scale_of(store(range(min(256, len(store.texts))), 0))
            for diffusion in (self.diffusion, self.average):
                diffusion.scale.copy_(scale)

    def _annotated(self, examples: TextExamples, training: bool) -> ReferenceAnnotations:
        texts = self.explained.encode(examples.texts, examples.text_pairs)
        variants, seed = self.hparams["n_variants"] if training else 1, self.hparams["seed"]
        store, effects = AttentionStore(self.explained, texts, self.layers, variants, seed), list[SubsetEffects]()
        if training and self.weights["additivity"]:
            regression = SubsetRegression(self.hparams["n_subsets"], prior=False)
            effects = cached_effects(regression, self.explained, texts, self.explained.predicted(texts))
        return ReferenceAnnotations(self.explained, texts, store, effects)

    def training_step(self, batch: ReferenceBatch, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.hparams["seed"] * 1_000_003 + self.global_step)
        variant = int(torch.randint(self.hparams["n_variants"], (), generator=generator))
        losses = self.losses(batch, variant, generator)
        loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(batch))
        return loss

    def losses(self, batch: ReferenceBatch, variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, each unweighted."""
        losses: dict[str, Tensor] = {}
        with record_attention(self.explained, batch.tokens, self.layers) as (state, upper, edit):
            if self.weights["denoising"]:
                losses["denoising"] = self._denoising(batch.reference(variant), state.hidden, generator)
            if self.weights["neutrality"] or self.weights["additivity"]:
                noise = torch.randn(state.attention.shape, generator=generator).to(state.attention)
                sample = drawn(self.diffusion, state, noise, self.hparams["n_steps"], self.hparams["start"])
            if self.weights["neutrality"]:
                losses["neutrality"] = self._neutrality(sample, batch, upper, edit)
            if self.weights["additivity"]:
                scores = self.rpi.scores_from(upper, edit, state, sample, upper.readout.predicted())
                losses["additivity"] = self._additivity(scores, batch)
        return losses

    def _neutrality(self, sample: Tensor, batch: ReferenceBatch, upper: UpperLayers, edit: LayerAttention) -> Tensor:
        edit.supplied = sample
        readout = upper(torch.arange(len(batch), device=self.device))
        edit.supplied = None
        if self.hparams["objective"] == "class":
            return prediction_destroyed(readout, upper.readout.predicted())
        return neutrality(readout, batch.reference(0).readout)

    def _additivity(self, scores: Scores, batch: ReferenceBatch) -> Tensor:
        """Of scores (batch, seq), right-padded."""
        width = scores.shape[1]
        design = [F.pad(effects.design, (0, width - effects.design.shape[1])) for effects in batch.effects]
        value = torch.stack([effects.value for effects in batch.effects])
        return additivity(scores, torch.stack(design).to(scores), value.to(scores))

    def _denoising(self, reference: ReferenceAttention, hidden: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of the prediction over the valid entries of reference attention, noised."""
        condition = Condition(reference.valid, reference.replaced, hidden.float())
        clean = self.diffusion.encoded(reference.logs, reference.valid)
        z, t, noise = self._noised(clean, condition, generator)
        valid = reference.valid[:, :, None].expand_as(z)
        wanted = self.diffusion.schedule.aim(clean, t, noise)
        return F.mse_loss(self.diffusion.predicted(z, t, condition)[valid], wanted[valid])

    def _noised(self, clean: Tensor, condition: Condition, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """z_t at one random t per text, that t, and the noise."""
        noise = centred(torch.randn(clean.shape, generator=generator).to(clean), condition.valid)
        t = torch.randint(1, self.diffusion.schedule.n_timesteps + 1, (len(clean),), generator=generator)
        t = t.to(clean.device)
        return self.diffusion.schedule.noised(clean, t, noise), t, noise

    def on_train_batch_end(self, *args: Any) -> None:
        """Move the average towards the weights, faster in the first steps."""
        decay = min(self.hparams["decay"], (1 + self.global_step) / (10 + self.global_step))
        for average, weights in zip(self.average.parameters(), self.diffusion.parameters(), strict=True):
            average.lerp_(weights.detach(), 1 - decay)

    @torch.no_grad()
    def validation_step(self, batch: ReferenceBatch, batch_idx: int) -> None:
        reference = batch.reference(0)
        with record_attention(self.explained, batch.tokens, self.layers) as (state, upper, edit):
            sample = self.baseline(state, 0, self.hparams["seed"])
            edit.supplied = sample
            readout = upper(torch.arange(len(batch), device=self.device))
            edit.supplied = None
        values = sample_checks(sample.transpose(0, 1), reference)
        values["neutrality"] = neutrality(readout, reference.readout)
        values["own_neutrality"] = neutrality(upper.readout, reference.readout)  # of the text's own attention
        for name, value in values.items():
            reduce = "max" if name in ("row_sum_error", "forbidden") else "mean"
            self.log(f"validation/{name}", value, batch_size=len(batch), reduce_fx=reduce, sync_dist=True)
        if batch_idx == 0 and self.trainer.loggers:
            self._show(sample, reference, state)

    def _show(self, sample: Tensor, reference: ReferenceAttention, state: AttentionState) -> None:
        """Log the first text's attention: sampled, of the reference input, and its own."""
        n = int(state.batch.attention_mask[0].sum())
        for place, layer in enumerate(self.layers):
            replaced = reference.logs[0, place].exp()
            panels = {
                "sampled": sample[place, 0],
                "all replaced": replaced,
                "the text's own": state.attention[place, 0],
            }
            figure = attention_figure({label: attention[:, :n, :n] for label, attention in panels.items()})
            log_figure(self.trainer.loggers, f"validation/layer_{layer}", figure, self.global_step)

    def on_validation_epoch_end(self) -> None:
        """Log RPI's faithfulness with these samples, and once measured with each rival on the same path.

        The rivals' scores are read by the formula that is best for them.
        """
        texts = list(self.annotations["validation"].texts[: self.hparams["n_texts"]])
        learned = rpi_faithfulness(self.explained, texts, self.rpi_settings, self.baseline)
        self.log(f"{TAG}/learned", learned, prog_bar=True, sync_dist=True)
        if not self.of_others:
            settings = {**self.rpi_settings, "formula": "gradient"}
            self.of_others = {name: rpi_faithfulness(self.explained, texts, settings, name) for name in RIVALS}
        self.log_dict({f"{TAG}/{name}": value for name, value in self.of_others.items()}, sync_dist=True)

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        """Nothing: `explainer compare` compares, since the exported baseline is a setting of the method `rpi`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.average.load_state_dict(checkpoint["average"])
        self.diffusion.scale.copy_(checkpoint["average"]["scale"])

    def export(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the averaged diffusion as a folder that RPI's `baseline` can name."""
        self.baseline.save(folder, self.explained, dtype)
