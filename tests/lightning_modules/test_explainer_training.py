"""The base of trainings of explainers: which modules have an attributor, and what their checkpoints hold."""

import pytorch_lightning as pl
import torch

from explainer.attributor import Attributor
from explainer.explainers import SideExplainer
from explainer.methods.trained.amortized import Amortized
from lightning_modules.data.text import TextExamples
from lightning_modules.explainer_training import AbstractExplainerTraining, attributor_of
from tests.families import explained
from tests.lightning_modules.test_base import Small


class Explaining(AbstractExplainerTraining):
    """A side explainer of a tiny BERT."""

    def __init__(self, longest_text: int | None = None) -> None:
        super().__init__(learning_rate=0.1, weight_decay=0.0, warmup=0.0)
        self.explained = explained("bert")
        self.explainer = SideExplainer(self.explained, width=4, rank=2, heads=1)
        self.explainer.longest_text = longest_text

    @property
    def attributor(self) -> Attributor:
        return Attributor(self.explained, Amortized(self.explainer))


def test_the_attributor_is_that_of_a_training_of_explainers() -> None:
    module, attributor = Explaining(), attributor_of(Explaining())
    assert isinstance(attributor, Attributor)
    assert attributor.explained is module.explained
    assert attributor_of(Small()) is None
    assert attributor_of(pl.LightningModule()) is None


def test_a_checkpoint_holds_the_length_of_the_longest_text() -> None:
    checkpoint: dict[str, object] = {}
    Explaining(longest_text=9).on_save_checkpoint(checkpoint)
    module = Explaining()
    module.on_load_checkpoint(checkpoint)
    assert module.explainer.longest_text == 9
    older = Explaining(longest_text=9)
    older.on_load_checkpoint({})
    assert older.explainer.longest_text is None


def test_methods_explain_the_predicted_labels_of_test_texts() -> None:
    module, texts = Explaining(), ["the film was great fun", "bad"]
    items = module.compared(TextExamples([0, 1], texts, [None, None], [None, None]))
    assert [text.text for text in items.texts] == texts  # type: ignore[attr-defined]
    predicted = module.explained.predicted(module.explained.encode(texts))
    assert torch.equal(items.target.choices, predicted.choices)  # type: ignore[attr-defined]
    assert module.comparison({"explainer": module.attributor.method}, "explainer").ours == "explainer"
