"""Where weights come from: a name, a folder of that name, or an installed package with exactly those weights."""

import hashlib
import sys
from pathlib import Path

import pytest

from explainer.explained import weights
from explainer.explained.weights import Packaged, locate

PACKAGE = "a_package_that_carries_weights"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package with a weights file in it."""
    folder = tmp_path / PACKAGE / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def know(monkeypatch: pytest.MonkeyPatch, sha256: str, package: str = PACKAGE) -> None:
    monkeypatch.setitem(weights.PACKAGED, "hub/model", Packaged(package, "model", sha256))


def test_an_unknown_name_is_itself() -> None:
    assert locate("someone/some-model") == "someone/some-model"


def test_the_package_s_folder_is_found(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, hashlib.sha256(b"weights").hexdigest())
    assert locate("hub/model") == str(package)
    assert PACKAGE not in sys.modules  # looked up, not imported


def test_other_weights_than_the_published_are_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, "0" * 64)
    with pytest.raises(ValueError, match=rf"`{PACKAGE}` carries have sha256 .* the published model has 0000"):
        locate("hub/model")


def test_a_model_in_one_gguf_file_is_at_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.Q4_1.gguf").write_bytes(b"weights")
    assert locate(str(tmp_path)) == str(tmp_path / "one.Q4_1.gguf")
    assert locate(str(tmp_path / "one.Q4_1.gguf")) == str(tmp_path / "one.Q4_1.gguf")
    (tmp_path / "two.gguf").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"holds 2 GGUF files, one.Q4_1.gguf, two.gguf: name one of them"):
        locate(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert locate(str(tmp_path)) == str(tmp_path)


def test_without_the_package_the_name_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, "0" * 64, package="no_such_package_at_all")
    assert locate("hub/model") == "hub/model"


def test_a_folder_of_that_name_comes_first(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, "0" * 64)
    (tmp_path / "hub" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("hub/model") == "hub/model"
