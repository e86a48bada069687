"""Train the diffusion that RPI's baselines are drawn from (`explainer.methods.rpi.baselines.learned`)."""

import copy
import math
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from explainer.evaluation.comparison import targets
from explainer.explained import EncodedText, ExplainedModel
from explainer.explained.upper_layers import LayerMaps, Resumed, layer_index
from explainer.explainers.losses import additivity, prediction_destroyed
from explainer.faithfulness.measures import faithfulness, summary
from explainer.methods import RPI
from explainer.methods.rpi.baselines import AttentionState, recorded
from explainer.methods.rpi.baselines.learned import Learned, drawn
from explainer.methods.rpi.diffusion import AttentionDiffusion, Condition
from explainer.methods.rpi.diffusion.attention import FLOOR, centred
from explainer.methods.rpi.figure import attention_figure
from explainer.methods.run import scores_of
from explainer.methods.subset_regression import SubsetEffects, SubsetRegression
from explainer.storage.cache import cached_effects
from explainer.storage.provenance import digest_of
from explainer.typing import Logits, Scores
from lightning_modules.base import TrainingModule
from lightning_modules.data.attention import AttentionStore, ReferenceMaps
from lightning_modules.data.text import TextData, TextExamples

TAG, RIVALS = "validation_faithfulness", ("gaussian", "all_reference")


class BaselineTraining(TrainingModule):
    """Attention of reference inputs, as a diffusion; and baselines that the model learns nothing from.

    loss = denoising * || v - v_hat ||^2 over valid entries
         + neutrality * KL(f(x; A := B) || p_ref)
           (with `objective: class` this is -log(1 - f_c(x; A := B)), c the predicted class)
         + additivity * (1 - correlation of the sums of RPI's map from B over subsets of tokens with what deleting the
                         subsets, or keeping them alone, really does to the log-odds of c)

    B is a sample as RPI draws it, DDIM included, and gradients pass through all of it (Clark et al., Directly
    Fine-Tuning Diffusion Models on Differentiable Rewards, ICLR 2024); p_ref is the prediction for the text with all of
    its scorable tokens replaced. The last term is the map's own sufficiency and comprehensiveness, made differentiable.

    Args:
        explained: the model whose attention it is: hub id, model folder or PEFT adapter folder.
        layers: its blocks, negative from the end; one diffusion of them all.
        width: of an entry's vector in the denoiser.
        depth: blocks of the denoiser.
        use_hidden: whether the denoiser sees the state that enters the lowest layer.
        schedule: `linear` or `cosine`.
        prediction: what the denoiser predicts, `eps` or `v`.
        n_timesteps: T.
        n_variants: reference inputs a text: all tokens replaced, and n_variants - 1 random subsets.
        denoising: weight of the denoising loss.
        neutrality: weight of the neutrality loss; 0 leaves it out.
        additivity: weight of the loss on the map's own faithfulness; 0 leaves it out.
        reading: RPI's settings (formula, rows, n_steps) that the baselines are for: of the additivity loss, of the
            validation, and of whoever uses the exported folder; RPI's defaults where nothing is given.
        n_subsets: random subsets a text that the additivity loss looks at.
        objective: of the neutrality loss: the prediction for the reference input (`reference`), or anything but the
            class that the text has (`class`).
        decay: of the weights' exponential moving average, which is what is sampled from and exported.
        n_steps: of DDIM, when sampling.
        start: t / T that sampling starts from.
        n_texts: validation texts on which RPI is measured with samples, and with Gaussian baselines.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
        seed: of subsets, noise and t.
    """

    def __init__(
        self,
        explained: str = "checkpoints/demo-classifier",
        layers: list[int] = [-1],  # noqa: B006 - the CLI shows it; never changed
        width: int = 32,
        depth: int = 4,
        use_hidden: bool = True,
        schedule: str = "cosine",
        prediction: str = "v",
        n_timesteps: int = 500,
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
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        if objective not in ("reference", "class"):
            raise ValueError(f"`objective` must be `reference` or `class`, got {objective!r}.")
        if n_variants < 1 or not 0 <= decay < 1:
            raise ValueError(f"`n_variants` must be at least 1 and `decay` in [0, 1), got {n_variants} and {decay}.")
        self.weights = {"denoising": denoising, "neutrality": neutrality, "additivity": additivity}
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError(f"The losses' weights must be at least 0 and not all 0, got {self.weights}.")
        self.explained = ExplainedModel.from_pretrained(explained)
        self.layers = tuple(sorted({layer_index(self.explained, layer) for layer in layers}))
        config = self.explained.backbone.config
        self.diffusion = AttentionDiffusion(
            list(self.layers),
            config.num_attention_heads,
            config.hidden_size,
            width,
            depth,
            use_hidden,
            schedule,
            prediction,
            n_timesteps,
        )
        self.average = copy.deepcopy(self.diffusion).requires_grad_(False)
        self.reading: dict[str, Any] = {"n_baselines": 1, **(reading or {}), "layers": self.layers}
        self.rpi = RPI(**self.reading)
        self.texts: dict[str, list[EncodedText]] = {}
        self.effects: list[SubsetEffects] = []
        self.stores: dict[str, AttentionStore] = {}
        self.rivals: dict[str, float] = {}

    @property
    def baseline(self) -> Learned:
        """The sampler as it is now, of the averaged weights."""
        digest, tokenizer = digest_of(self.average.state_dict())[:16], self.explained.text.fingerprint
        sampling = {"n_steps": self.hparams["n_steps"], "start": self.hparams["start"]}
        return Learned(self.average.eval(), digest, tokenizer, reading=self.hparams["reading"] or {}, **sampling)

    def setup(self, stage: str) -> None:
        """The reference attention of the splits and what subsets do, from disk where they are there."""
        data: TextData = getattr(self.trainer, "datamodule")  # noqa: B009 - Trainer sets it late
        for split in {"fit": ("train", "validation"), "validate": ("validation",)}.get(stage, ()):
            if split in self.stores:
                continue
            examples = data.examples(split)
            self.texts[split] = self.explained.encode(examples.texts, examples.text_pairs)
            variants = self.hparams["n_variants"] if split == "train" else 1
            self.stores[split] = AttentionStore(
                self.explained, self.texts[split], self.layers, variants, self.hparams["seed"]
            )
        if stage == "fit":
            if self.weights["additivity"] and not self.effects:
                texts, regression = self.texts["train"], SubsetRegression(self.hparams["n_subsets"], prior=False)
                self.effects = cached_effects(regression, self.explained, texts, targets(self.explained, texts))
            scale = scale_of(self.stores["train"](range(min(256, len(self.texts["train"]))), 0))
            for diffusion in (self.diffusion, self.average):
                diffusion.scale.copy_(scale)

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.hparams["seed"] * 1_000_003 + self.global_step)
        variant = int(torch.randint(self.hparams["n_variants"], (), generator=generator))
        losses = self.losses(examples.index, variant, generator)
        loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples))
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, batch_size=len(examples))
        return loss

    def losses(self, index: list[int], variant: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, each unweighted."""
        batch = self.explained.collate([self.texts["train"][i] for i in index])
        losses: dict[str, Tensor] = {}
        with recorded(self.explained, batch, self.layers) as (state, resumed, maps):
            if self.weights["denoising"]:
                reference = self.stores["train"](index, variant).to(self.device)
                losses["denoising"] = self._denoising(reference, state.hidden, generator)
            if self.weights["neutrality"] or self.weights["additivity"]:
                noise = torch.randn(state.maps.shape, generator=generator).to(state.maps)
                sample = drawn(self.diffusion, state, noise, self.hparams["n_steps"], self.hparams["start"])
            if self.weights["neutrality"]:
                losses["neutrality"] = self._neutrality(sample, index, resumed, maps)
            if self.weights["additivity"]:
                scores = self.rpi.map_from(resumed, maps, state, sample, resumed.logits.argmax(dim=-1))
                losses["additivity"] = self._additivity(scores, index)
        return losses

    def _neutrality(self, sample: Tensor, index: list[int], resumed: Resumed, maps: LayerMaps) -> Tensor:
        maps.supplied = sample
        logits = resumed(torch.arange(len(index), device=self.device))
        maps.supplied = None
        if self.hparams["objective"] == "class":
            return prediction_destroyed(logits, resumed.logits.argmax(dim=-1))
        return neutrality(logits, self.stores["train"](index, 0).to(self.device).logits)

    def _additivity(self, scores: Scores, index: list[int]) -> Tensor:
        """Of scores (batch, seq), right-padded."""
        effects = [self.effects[i] for i in index]
        design = [F.pad(each.design, (0, scores.shape[1] - each.design.shape[1])) for each in effects]
        return additivity(scores, torch.stack(design).to(scores), torch.stack([e.value for e in effects]).to(scores))

    def _denoising(self, reference: ReferenceMaps, hidden: Tensor, generator: torch.Generator) -> Tensor:
        """|| aim - prediction ||^2 over the valid entries of reference attention, noised."""
        condition = Condition(reference.valid, reference.replaced, hidden.float())
        clean = self.diffusion.encoded(reference.logs, reference.valid)
        z, t, noise = self._noised(clean, condition, generator)
        there = reference.valid[:, :, None].expand_as(z)
        aim = self.diffusion.schedule.aim(clean, t, noise)
        return F.mse_loss(self.diffusion.predicted(z, t, condition)[there], aim[there])

    def _noised(self, clean: Tensor, condition: Condition, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """z_t at a random t a text, that t, and the noise."""
        noise = centred(torch.randn(clean.shape, generator=generator).to(clean), condition.valid)
        t = torch.randint(1, self.diffusion.schedule.n_timesteps + 1, (len(clean),), generator=generator)
        t = t.to(clean.device)
        return self.diffusion.schedule.noised(clean, t, noise), t, noise

    def on_train_batch_end(self, *args: Any) -> None:
        """The moving average follows, faster in the first steps."""
        decay = min(self.hparams["decay"], (1 + self.global_step) / (10 + self.global_step))
        for average, now in zip(self.average.parameters(), self.diffusion.parameters(), strict=True):
            average.lerp_(now.detach(), 1 - decay)

    @torch.no_grad()
    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        texts, reference = self.texts["validation"], self.stores["validation"](examples.index, 0).to(self.device)
        batch = self.explained.collate([texts[i] for i in examples.index])
        with recorded(self.explained, batch, self.layers) as (state, resumed, maps):
            sample = self.baseline(state, 0, self.hparams["seed"])
            maps.supplied = sample
            logits = resumed(torch.arange(len(examples), device=self.device))
            maps.supplied = None
        values = sample_checks(sample.transpose(0, 1), reference)
        values["neutrality"] = neutrality(logits, reference.logits)
        values["own_neutrality"] = neutrality(resumed.logits, reference.logits)  # what it falls from
        for name, value in values.items():
            reduce = "max" if name in ("row_sum_error", "forbidden") else "mean"
            self.log(f"validation/{name}", value, batch_size=len(examples), reduce_fx=reduce)
        if batch_idx == 0:
            self._show(sample, reference, state)

    def _show(self, sample: Tensor, reference: ReferenceMaps, state: AttentionState) -> None:
        """The first text's maps, sampled, real, and its own, in TensorBoard."""
        if not isinstance(self.logger, TensorBoardLogger):
            return
        n = int(state.batch.attention_mask[0].sum())
        for place, layer in enumerate(self.layers):
            real = reference.logs[0, place].exp()
            rows = {"sampled": sample[place, 0], "all replaced": real, "the text's own": state.maps[place, 0]}
            figure = attention_figure({label: maps[:, :n, :n] for label, maps in rows.items()})
            self.logger.experiment.add_figure(f"validation/layer_{layer}", figure, global_step=self.global_step)

    def on_validation_epoch_end(self) -> None:
        """RPI's faithfulness with these samples, beside its rivals' on the same path, read as is best for them."""
        ours = RPI(**{**self.reading, "baseline": self.baseline})
        self.log(f"{TAG}/learned", self._faithfulness(ours), prog_bar=True)
        if not self.rivals:
            for name in RIVALS:
                rival = RPI(**{**self.reading, "baseline": name, "formula": "gradient"})
                self.rivals[name] = self._faithfulness(rival)
        self.log_dict({f"{TAG}/{name}": value for name, value in self.rivals.items()})

    @torch.no_grad()
    def _faithfulness(self, rpi: RPI) -> float:
        texts = self.texts["validation"][: self.hparams["n_texts"]]
        target = targets(self.explained, texts)
        scores = scores_of(rpi, self.explained, texts, target)
        metrics = ("aopc_comprehensiveness", "aopc_sufficiency")
        return float(summary(faithfulness(self.explained, texts, scores, target, metrics)).mean())

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        """`explainer compare` compares: the exported baseline is a setting of the method `rpi`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.average.load_state_dict(checkpoint["average"])
        self.diffusion.scale.copy_(checkpoint["average"]["scale"])

    def export(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the averaged diffusion as a folder that RPI's `baseline` can name."""
        self.baseline.save(folder, self.explained, dtype)


def neutrality(logits: Logits, goal: Logits) -> Float[Tensor, ""]:
    """KL(f || p_ref), the mean over the texts."""
    found, aim = logits.float().log_softmax(dim=-1), goal.float().log_softmax(dim=-1)
    return F.kl_div(aim, found, log_target=True, reduction="batchmean")


def sample_checks(sample: Float[Tensor, "batch layers heads seq seq"], reference: ReferenceMaps) -> dict[str, Tensor]:
    """The largest error of a row sum, the largest attention where none may be, and half the L1 distance of a row.

    All over real rows; the distance is 0 for equal maps and at most 1.
    """
    valid = reference.valid[:, :, None].expand_as(sample)
    there = valid.any(dim=-1)
    apart = 0.5 * (sample - reference.logs.exp()).abs().masked_fill(~valid, 0.0).sum(dim=-1)
    return {
        "row_sum_error": (sample.sum(dim=-1) - 1)[there].abs().max(),
        "forbidden": sample.masked_fill(valid | ~there[..., None], 0.0).abs().max(),
        "distance": apart[there].mean(),
    }


def scale_of(reference: ReferenceMaps) -> Float[Tensor, "layers heads 1 1"]:
    """Standard deviation of centred log-attention, a head; where a head has none, 1."""
    there = reference.valid[:, :, None].expand_as(reference.logs)
    squared = centred(reference.logs.clamp(min=math.log(FLOOR)), reference.valid).square().sum(dim=(0, 3, 4))
    found = (squared / there.sum(dim=(0, 3, 4)).clamp(min=1)).sqrt()
    return torch.where(found > 0, found, 1.0)[..., None, None]
