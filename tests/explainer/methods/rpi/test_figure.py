"""A figure of maps has one square a head and label, each with its values."""

import torch

from explainer.methods.rpi.figure import attention_figure


def test_every_head_has_its_square() -> None:
    maps = {"real": torch.rand(3, 4, 4), "sampled": torch.rand(3, 4, 4)}
    axes = attention_figure(maps).axes
    assert len(axes) == 6
    for i, label in enumerate(maps):
        assert axes[3 * i].get_ylabel() == label
        shown = torch.as_tensor(axes[3 * i + 1].images[0].get_array())
        assert torch.allclose(shown, maps[label][1].sqrt())
