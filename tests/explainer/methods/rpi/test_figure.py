"""A figure of attention has one square per label and head, each with its values."""

import torch

from explainer.methods.rpi.figure import attention_figure


def test_every_head_has_its_square() -> None:
    attention = {"real": torch.rand(3, 4, 4), "sampled": torch.rand(3, 4, 4)}
    axes = attention_figure(attention).axes
    assert len(axes) == 6
    for i, label in enumerate(attention):
        assert axes[3 * i].get_ylabel() == label
        shown = torch.as_tensor(axes[3 * i + 1].images[0].get_array())
        assert torch.allclose(shown, attention[label][1].sqrt())
