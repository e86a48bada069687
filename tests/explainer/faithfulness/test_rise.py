"""Deletion and insertion curves against pixels made grey by hand."""

import pytest
import torch

from explainer.explained import Attributions
from explainer.faithfulness.rise import rise_curves
from tests.explainer.explained.test_image import explained, images


def test_curves_and_areas_by_hand() -> None:
    model = explained()
    texts = model.encode_pixels(images(2))
    target = model.predicted(texts)
    scores = [torch.cat([torch.zeros(1), torch.arange(9.0)]), torch.cat([torch.zeros(1), -torch.arange(9.0)])]
    found = rise_curves(model, Attributions(texts, target, scores))
    assert found.deletion.shape == (2, 11)
    for i, order in enumerate((range(8, -1, -1), range(9))):
        gone, back = images(2)[i : i + 1], torch.zeros(1, 3, 12, 12, dtype=torch.float64)
        for point in range(11):
            k = 9 * point // 10
            for patch in list(order)[:k]:
                row, column = 4 * (patch // 3), 4 * (patch % 3)
                gone[..., row : row + 4, column : column + 4] = 0
                back[..., row : row + 4, column : column + 4] = images(2)[i, :, row : row + 4, column : column + 4]
            for curve, pixels in ((found.deletion, gone), (found.insertion, back)):
                probability = model.model(pixel_values=pixels).logits.softmax(dim=-1)[0, target.classes[i]]
                assert float(curve[i, point]) == pytest.approx(float(probability), rel=1e-5)
    mean = (found.deletion[:, 1:] + found.deletion[:, :-1]).mean(dim=1) / 2
    assert torch.allclose(found.deletion_area, mean)


def test_percents_must_rise() -> None:
    model = explained()
    texts = model.encode_pixels(images(1))
    given = Attributions(texts, model.predicted(texts), [torch.zeros(10)])
    with pytest.raises(ValueError, match="`percents` must rise from 0 to 100"):
        rise_curves(model, given, (0.0, 50.0))
