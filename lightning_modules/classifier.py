"""Fine-tune a pretrained encoder or decoder with LoRA: a model to explain, which classifies, tags or answers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from explainer.explained import EncodedText, TextClassification, adapters
from explainer.explained.batch import collate
from explainer.explained.conventions import settle_padding, text_encoder
from explainer.explained.loading import load_base
from explainer.explained.passes import model_inputs
from explainer.explained.pretrained import quiet
from explainer.explained.weights import Shapes, check_sizes, read_json
from explainer.explainers import LoraExplainer
from explainer.storage.atomic import write_text
from lightning_modules.answering import AbstractAnswering
from lightning_modules.data.text import TextExamples
from lightning_modules.heads import HEADS, Gold
from lightning_modules.small import small_model


class ClassifierTraining(AbstractAnswering):
    """LoRA fine-tuning of `base`; accuracy on validation and test texts, of which all words or both ends must be right.

    Args:
        base: hub id or folder of a pretrained model.
        labels: names of the classes; the data's labels are these names, or their numbers from 0. Of `task:
            token-classification` the tags, such as [O, B-PER, I-PER]; the data's labels are lists of entities, each
            with `start`, `end` and `label`. Of `task: question-answering` they are not read; the data's labels are the
            answers' [start, end] in the second text.
        task: text-classification, token-classification or question-answering.
        small: instead of a base: an encoder that is trained whole from nothing, by {words_of: a data set of the catalog
            whose words are its vocabulary, model_type: its family, and entries of its configuration}.
        rank: of the LoRA matrices (Hu et al. 2022).
        alpha: their scale; alpha / rank multiplies the update.
        dropout: on the input of the LoRA matrices, in training.
        target_modules: names of the linear layers that get a LoRA, or "all-linear".
        learning_rate: the highest one of AdamW.
        weight_decay: of AdamW.
        warmup: share of the training during which the learning rate rises.
    """

    def __init__(
        self,
        base: str = "sentence-transformers/all-MiniLM-L6-v2",
        labels: list[str] = ["negative", "positive"],  # noqa: B006 - the CLI shows it; never changed
        task: str = TextClassification.name,
        small: dict[str, Any] | None = None,
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
        if task not in HEADS:
            raise ValueError(f"`task` must be one of {', '.join(HEADS)}, got {task!r}.")
        self.head = HEADS[task](labels)
        if small is None:
            model, tokenizer, fresh = load_base(base, self.head.labels, torch.float32, self.head.auto_model)
        else:
            model, tokenizer = small_model(labels=self.head.labels, auto_model=self.head.auto_model, **small)
        settle_padding(model, tokenizer)
        self.text = text_encoder(model, tokenizer, cast(nn.Embedding, model.get_input_embeddings()))
        self.model: Any = model.train()  # a model is loaded in eval mode, in which its dropout would stay off
        if small is None:
            lora = LoraConfig(
                task_type=self.head.task_type,
                r=rank,
                lora_alpha=alpha,
                lora_dropout=dropout,
                target_modules=target_modules,
                modules_to_save=fresh or None,
            )
            with quiet():
                self.model = get_peft_model(model, lora).train()

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], shapes: Shapes) -> None:
        if not settings.get("small"):
            check_sizes(settings, LoraExplainer.sizes(shapes))

    def forward(self, examples: TextExamples) -> Float[Tensor, "batch questions choices"]:
        return self._logits(self.head.encode(self.text, examples))

    def _logits(self, texts: Sequence[EncodedText]) -> Float[Tensor, "batch questions choices"]:
        batch = collate([text.tokens for text in texts], pad_token_id=self.text.tokenizer.pad_token_id)
        batch = batch.to(self.device)
        model = self.model if self.hparams["small"] else self.model.get_base_model()
        return self.head.logits(self.model(**model_inputs(model, batch, positions=False)), batch)

    def _answers(self, examples: TextExamples) -> tuple[Float[Tensor, "batch questions choices"], Gold]:
        texts = self.head.encode(self.text, examples)
        return self._logits(texts), self.head.gold(texts, examples.labels).to(self.device)

    def export(self, folder: Path) -> None:
        """Write the adapter and the configuration with the label names: a folder that `--model` can name.

        The tokenizer is that of the base, and is loaded from there. A small model is written whole.
        """
        if self.hparams["small"]:
            self.model.save_pretrained(str(folder))
            self.text.tokenizer.save_pretrained(str(folder))
            return
        self.model.peft_config["default"].base_model_name_or_path = self.hparams["base"]
        self.model.save_pretrained(str(folder), save_embedding_layers=False)
        self.model.config.save_pretrained(folder)
        config = read_json(folder / "config.json")
        settings, weights = read_json(folder / adapters.CONFIG), folder / adapters.WEIGHTS
        config[adapters.DIGEST] = adapters.digest_of_adapter(config, settings, weights)
        write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
