"""The cache: computed once, never stale, whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from explainer.explained import EncodedText
from explainer.explained.tasks import TextClassification
from explainer.storage.cache import COMPUTING, PACKAGE, Cache, cache_folder, code_digest, listed, numbered
from tests.explainer.tools import fresh
from tests.families import TEXTS, explained


@dataclass
class Work:
    """A computation that counts how often it is done."""

    done: int = 0
    results: list[Tensor] = field(default_factory=lambda: [torch.tensor([1.0, 2.0]), torch.zeros(0), torch.tensor(3)])

    def __call__(self) -> dict[str, Tensor]:
        self.done += 1
        return {"seconds": torch.tensor(0.5), **numbered(self.results)}


@pytest.fixture
def work() -> Work:
    return Work()


def test_content_is_computed_once_and_comes_back_equal(work: Work, tmp_path: Path) -> None:
    model = explained("bert")
    texts, cache = model.encode(TEXTS), Cache.of(model, tmp_path / "new")
    for _ in range(2):
        stored = listed(cache(texts, work, settings={"method": "sig"}))
        assert all(torch.equal(a, b) for a, b in zip(stored, work.results, strict=True))
    assert work.done == 1
    path = cache.path(texts, settings={"method": "sig"})
    assert [path] == list((tmp_path / "new").iterdir())


def test_without_a_folder_nothing_is_kept(work: Work) -> None:
    cache, texts = Cache(None, {}), explained("bert").encode(TEXTS)
    assert cache.path(texts) is None
    cache(texts, work)
    cache(texts, work)
    assert work.done == 2


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    model = explained("bert")
    with pytest.raises(RuntimeError, match="out of memory"):
        Cache.of(model, tmp_path)(model.encode(TEXTS), broken)
    assert list(tmp_path.iterdir()) == []


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:100],
    "empty": lambda content: b"",
    "other": lambda content: b"no tensors",
    "first bit": lambda content: flip(content, 0),
    "last bit": lambda content: flip(content, len(content) - 1),
    "without its digest": lambda content: save(load(content)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_computed_again(damage: Callable[[bytes], bytes], work: Work, tmp_path: Path) -> None:
    model = explained("bert")
    texts, cache = model.encode(TEXTS), Cache.of(model, tmp_path)
    cache(texts, work)
    path = cache.path(texts)
    assert path is not None
    whole = path.read_bytes()
    assert cache.holds(texts)
    path.write_bytes(damage(whole))
    assert not cache.holds(texts)
    for _ in range(2):
        stored = listed(cache(texts, work))
        assert all(torch.equal(a, b) for a, b in zip(stored, work.results, strict=True))
    assert work.done == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize("bit", range(0, 5000, 97))
def test_no_bit_can_change_unnoticed(bit: int, work: Work, tmp_path: Path) -> None:
    cache, texts = Cache.of(explained("bert"), tmp_path), explained("bert").encode(TEXTS)
    cache(texts, work)
    path = cache.path(texts)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)
    stored = cache(texts, work)
    assert all(torch.equal(a, b) for a, b in zip(listed(stored), work.results, strict=True))
    assert stored["seconds"] == 0.5


def test_a_file_that_another_process_writes_meanwhile_is_no_obstacle(tmp_path: Path) -> None:
    """Both find nothing, compute and write; both get what they computed."""
    model = explained("bert")
    texts, cache = model.encode(TEXTS), Cache.of(model, tmp_path)

    def other() -> dict[str, Tensor]:
        return {"x": cache(texts, lambda: {"x": torch.arange(3)})["x"].clone()}

    assert torch.equal(cache(texts, other)["x"], torch.arange(3))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_named(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "fsync", full)
    cache, texts = Cache.of(explained("bert"), tmp_path), explained("bert").encode(TEXTS)
    with pytest.raises(OSError, match=r"No space left on device \(AMORTEX_CACHE names another folder\): .*safetensors"):
        cache(texts, work)
    assert list(tmp_path.iterdir()) == []


# The key


def tokens(**changes: Callable[[EncodedText], object]) -> Callable[[EncodedText], EncodedText]:
    def changed(text: EncodedText) -> EncodedText:
        return replace(text, tokens=replace(text.tokens, **{name: make(text) for name, make in changes.items()}))

    return changed


def first_token(text: EncodedText) -> Tensor:
    return torch.arange(len(text)) == 1


CHANGES: dict[str, Callable[[EncodedText], EncodedText]] = {
    "ids": tokens(input_ids=lambda text: text.tokens.input_ids + 1),
    "types": tokens(token_type_ids=lambda text: torch.ones(len(text), dtype=torch.int64)),
    "no types": tokens(token_type_ids=lambda text: None),
    "zeroed": tokens(zeroed=first_token),
    "hidden": tokens(hidden=first_token),
    "nothing hidden": tokens(hidden=lambda text: torch.zeros(len(text), dtype=torch.bool)),
    "scorable": lambda text: replace(text, scorable=~text.scorable),
    "units": lambda text: replace(text, units=(0,) * len(text)),
    "other units": lambda text: replace(text, units=tuple(range(len(text)))),
}


def test_everything_about_a_text_that_scores_depend_on_gives_another_file(tmp_path: Path) -> None:
    model = explained("bert")
    texts, cache = model.encode(TEXTS), Cache.of(model, tmp_path)
    paths = {"as it is": cache.path(texts), "reversed": cache.path(texts[::-1]), "fewer": cache.path(texts[:-1])}
    paths |= {name: cache.path([*texts[:-1], change(texts[-1])]) for name, change in CHANGES.items()}
    assert len(set(paths.values())) == len(paths)
    assert cache.path(model.encode(TEXTS)) == paths["as it is"]


def test_model_task_precision_and_settings_give_another_file(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    other_task, other_weights = fresh("bert"), fresh("bert")
    assert isinstance(model.task, TextClassification)
    other_task.task = replace(model.task, link="sigmoid")
    with torch.no_grad():
        next(other_weights.model.parameters()).add_(1.0)
    paths = [Cache.of(one, tmp_path).path(texts) for one in (model, other_task, other_weights, explained("electra"))]
    with torch.autocast("cpu", torch.bfloat16):
        paths.append(Cache.of(model, tmp_path).path(texts))
    paths.append(Cache.of(model, tmp_path, device="cuda:0").path(texts))
    paths += [Cache.of(model, tmp_path).path(texts, settings={"seed": seed}) for seed in (0, 1)]
    assert len(set(paths)) == len(paths)
    assert Cache.of(fresh("bert"), tmp_path).path(texts) == paths[0]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, whose files may be changed."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "explainer", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize(
    "file", ["commands/compare.py", "rendering/html.py", "attributor/attributor.py", "__init__.py"]
)
def test_a_change_that_computes_nothing_keeps_the_files(file: str, package: Path) -> None:
    (package / file).write_text((package / file).read_text() + "\n# A comment.\n")
    assert uncached(package) == uncached(PACKAGE)


@pytest.mark.parametrize("folder", COMPUTING)
def test_a_change_of_what_computes_gives_other_files(folder: str, package: Path) -> None:
    file = next((package / folder).rglob("*.py"))
    file.write_text(file.read_text() + "\nEPSILON = 1e-6\n")
    assert uncached(package) != uncached(PACKAGE)


def test_a_new_or_moved_file_of_what_computes_gives_other_files(package: Path) -> None:
    before = uncached(package)
    (package / "methods" / "new.py").write_text("X = 1\n")
    added = uncached(package)
    (package / "methods" / "new.py").rename(package / "methods" / "moved.py")
    assert len({before, added, uncached(package)}) == 3


def test_the_code_is_part_of_every_key(tmp_path: Path) -> None:
    assert Cache.of(explained("bert"), tmp_path).key["code"] == uncached(PACKAGE)


def uncached(package: Path) -> str:
    code_digest.cache_clear()
    return code_digest(package)


def test_the_folder_is_the_user_s_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("AMORTEX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "amortex"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "amortex"
