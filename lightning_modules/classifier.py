"""Fine-tune a pretrained encoder or decoder to a sequence classifier with LoRA: a model to explain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from explainer.explained import adapters
from explainer.explained.batch import collate
from explainer.explained.conventions import settle_padding, text_encoder
from explainer.explained.loading import load_base
from explainer.explained.passes import model_inputs
from explainer.explained.pretrained import quiet
from explainer.explained.weights import Shapes, check_sizes, read_json
from explainer.explainers import LoraExplainer
from explainer.storage.atomic import write_text
from lightning_modules.base import TrainingModule
from lightning_modules.data.text import TextExamples


class ClassifierTraining(TrainingModule):
    """LoRA fine-tuning of `base` to `labels`; accuracy on validation and test texts.

    Args:
        base: hub id or folder of a pretrained model.
        labels: names of the classes; the data's labels are these names, or their numbers from 0.
        rank: of the LoRA matrices (Hu et al. 2022).
        alpha: their scale; alpha / rank multiplies the update.
        dropout: on the input of the LoRA matrices, in training.
        target_modules: names of the linear layers that get a LoRA, or "all-linear".
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    best_by = "validation/accuracy"

    def __init__(
        self,
        base: str = "sentence-transformers/all-MiniLM-L6-v2",
        labels: list[str] = ["negative", "positive"],  # noqa: B006 - the CLI shows it; never changed
        rank: int = 16,
        alpha: int = 32,
        dropout: float = 0.1,
        target_modules: list[str] | str = "all-linear",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.06,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        self.save_hyperparameters()
        if len(set(labels)) < max(len(labels), 2):
            raise ValueError(f"`labels` must name at least two classes, each once, got {labels}.")
        model, tokenizer, fresh = load_base(base, labels, torch.float32)
        settle_padding(model, tokenizer)
        self.text = text_encoder(model, tokenizer, cast(nn.Embedding, model.get_input_embeddings()))
        lora = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=target_modules,
            modules_to_save=fresh or None,
        )
        with quiet():
            # A model is loaded in eval mode, in which its dropout would stay off.
            self.model = get_peft_model(model, lora).train()
        self.validation_accuracy = MulticlassAccuracy(len(labels), average="micro")
        self.test_accuracy = MulticlassAccuracy(len(labels), average="micro")

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        check_sizes(settings, LoraExplainer.sizes(shapes))

    def forward(self, examples: TextExamples) -> Tensor:
        encoded = self.text.encode(examples.texts, examples.text_pairs)
        batch = collate([text.tokens for text in encoded], pad_token_id=self.text.tokenizer.pad_token_id)
        return self.model(**model_inputs(self.model.get_base_model(), batch.to(self.device), positions=False)).logits

    def _classes(self, examples: TextExamples) -> Int64[Tensor, " batch"]:
        """The index of each text's label.

        Raises:
            ValueError: when a label is neither one of the names nor a number below their count.
        """
        names: list[str] = self.hparams["labels"]
        index: dict[Any, int] = {number: number for number in range(len(names))} | {n: i for i, n in enumerate(names)}
        for label in examples.labels:
            if not isinstance(label, int | float | str) or label not in index:
                raise ValueError(
                    f"`labels` must name every label of the data, got {names}, and the data has {label!r}. The labels' "
                    "column is `--data.label`."
                )
        return torch.tensor([index[label] for label in examples.labels], device=self.device)

    def training_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(examples).float(), self._classes(examples)) * self.share(len(examples))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(examples), sync_dist=True)
        return loss

    def validation_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.validation_accuracy(self(examples), self._classes(examples))
        self.log("validation/accuracy", self.validation_accuracy, prog_bar=True, batch_size=len(examples))

    def test_step(self, examples: TextExamples, batch_idx: int) -> None:
        self.test_accuracy(self(examples), self._classes(examples))
        self.log("test/accuracy", self.test_accuracy, batch_size=len(examples))

    def predict_step(self, examples: TextExamples, batch_idx: int) -> Tensor:
        return self(examples).softmax(dim=-1)

    def export(self, folder: Path) -> None:
        """Write the adapter and the configuration with the label names: a folder that `--model` can name.

        The tokenizer is that of the base, and is loaded from there.
        """
        self.model.peft_config["default"].base_model_name_or_path = self.hparams["base"]
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
        self.model.config.save_pretrained(folder)
        config = read_json(folder / "config.json")
        settings, weights = read_json(folder / adapters.CONFIG), folder / adapters.WEIGHTS
        config[adapters.DIGEST] = adapters.digest_of_adapter(config, settings, weights)
        write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
