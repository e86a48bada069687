"""An exported attributor as a method: its own scores, on any batch; its settings tell its weights."""

from pathlib import Path

import torch

from explainer import Attributor, ExplainedModel, LoraExplainer
from explainer.methods.run import scores_of
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.exported import Exported
from tests.families import TEXTS, explained


def folder(tmp_path: Path) -> tuple[str, str]:
    """A model's folder and that of an untrained explainer of it."""
    tiny = explained("bert")
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    own = ExplainedModel.from_pretrained(tmp_path / "model")
    Attributor(own, Amortized(LoraExplainer(own, rank=2).eval())).save_pretrained(tmp_path / "out")
    return str(tmp_path / "model"), str(tmp_path / "out")


def test_its_scores_are_the_attributor_s_and_its_settings_change_with_its_weights(tmp_path: Path) -> None:
    model, exported = folder(tmp_path)
    tiny = ExplainedModel.from_pretrained(model)
    method = Exported.load(exported, model, tiny)
    found = scores_of(method, tiny, tiny.encode(TEXTS), torch.tensor([0, 1, 2, 0]))
    expected = Attributor.from_pretrained(exported)(TEXTS, target=[0, 1, 2, 0])
    assert all(torch.equal(one, torch.tensor(e.scores)) for one, e in zip(found, expected, strict=True))
    assert not any("lora" in name for name, _ in tiny.named_parameters())
    assert method.forward_equivalents(9) == 1.0
    again = Exported.load(exported, model, tiny)
    assert again.settings == method.settings
    changed = Exported.load(exported, model, tiny)
    network = changed.attributor.method
    assert isinstance(network, Amortized)
    with torch.no_grad():
        network.explainer.head[0].bias.add_(1.0)  # type: ignore[union-attr,operator]
    assert changed.settings != method.settings
