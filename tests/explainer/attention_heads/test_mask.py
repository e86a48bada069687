"""The file of a head mask."""

from pathlib import Path

import pytest

from explainer.attention_heads import HeadMask
from explainer.methods import MaskLRP


def test_a_mask_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    mask = HeadMask([[1.0, 0.0]], "m", "f", {"xi_pos": 0.8}, {"n_tokens": 3}, "by hand")
    mask.save(tmp_path / "new" / "heads.json")
    assert HeadMask.load(tmp_path / "new" / "heads.json") == mask


@pytest.mark.parametrize("text", ["{", '{"masks": []}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="is no file of `explainer heads`"):
        HeadMask.load(tmp_path / "a.json")


def test_a_changed_file_is_another_setting(tmp_path: Path) -> None:
    file = tmp_path / "heads.json"
    HeadMask([[1.0, 0.0]]).save(file)
    before = MaskLRP(heads=str(file)).settings
    assert MaskLRP(heads=str(file)).settings == before
    HeadMask([[1.0, 1.0]]).save(file)
    assert MaskLRP(heads=str(file)).settings != before
