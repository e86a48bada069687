"""Uploading to the hub, through a stand-in for its API that keeps what it is given."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.export import hub
from explainer.export.hub import base_model
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LORA_WARNINGS, moved, saved
from tests.families import TEXTS, explained

pytestmark = LORA_WARNINGS


def attributor_of(folder: Path) -> Attributor:
    """An attributor whose explained model is a folder of this machine."""
    model = ExplainedModel.from_pretrained(saved(explained("bert"), folder))
    return Attributor(model, Amortized(moved(model)))


class StandIn:
    """HfApi with the signatures of huggingface_hub 2, a folder in place of the hub."""

    root: Path
    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self, token: str | bool | None = None) -> None:
        self.calls.append(("api", {"token": token}))

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, "private": private, "exist_ok": exist_ok}))

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool = False) -> None:
        self.calls.append(("create_branch", {"branch": branch, "exist_ok": exist_ok}))

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, revision: str | None = None, commit_message: str | None = None
    ) -> SimpleNamespace:
        self.calls.append(("upload_folder", {"revision": revision, "commit_message": commit_message}))
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    StandIn.root, StandIn.calls = tmp_path / "hub", []
    monkeypatch.setattr(hub, "HfApi", StandIn)
    return StandIn


def metadata(readme: Path) -> dict[str, Any]:
    return yaml.safe_load(readme.read_text().split("---")[1])


def test_a_merged_upload_loads_from_what_was_uploaded(api: type[StandIn], tmp_path: Path) -> None:
    attributor = attributor_of(tmp_path / "mine")
    address = attributor.push_to_hub("me/explainer", merge=True, private=True, token="secret")
    assert address == "https://huggingface.co/me/explainer/commit/1"
    assert api.calls == [
        ("api", {"token": "secret"}),
        ("create_repo", {"repo_id": "me/explainer", "private": True, "exist_ok": True}),
        ("upload_folder", {"revision": None, "commit_message": "Upload attributor"}),
    ]
    expected = attributor(TEXTS)
    shutil.rmtree(tmp_path / "mine")
    assert Attributor.from_pretrained(api.root / "me" / "explainer")(TEXTS) == expected


def test_a_revision_is_a_branch_that_is_made(api: type[StandIn], tmp_path: Path) -> None:
    attributor_of(tmp_path / "mine").push_to_hub("me/explainer", merge=True, revision="next", commit_message="better")
    assert api.calls[2:] == [
        ("create_branch", {"branch": "next", "exist_ok": True}),
        ("upload_folder", {"revision": "next", "commit_message": "better"}),
    ]


def test_an_upload_refers_to_a_model_of_the_hub(api: type[StandIn], tmp_path: Path) -> None:
    attributor = attributor_of(tmp_path / "mine")
    attributor.explained.name = "someone/classifier"
    attributor.push_to_hub("me/explainer")
    readme = api.root / "me" / "explainer" / "README.md"
    assert metadata(readme) == {
        "library_name": "amortex",
        "license": "apache-2.0",
        "tags": ["token-attribution"],
        "base_model": "someone/classifier",
    }
    assert 'Attributor.from_pretrained("me/explainer")' in readme.read_text()


def test_a_folder_of_this_machine_is_not_referred_to(api: type[StandIn], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder of this machine, where nobody else finds it"):
        attributor_of(tmp_path / "mine").push_to_hub("me/explainer")
    assert api.calls == []


def test_a_card_of_one_s_own_is_uploaded_as_it_is(api: type[StandIn], tmp_path: Path) -> None:
    attributor_of(tmp_path / "mine").push_to_hub("me/explainer", merge=True, card="# mine\n")
    assert (api.root / "me" / "explainer" / "README.md").read_text() == "# mine\n"


def test_the_base_of_a_folder_is_its_adapter_s(tmp_path: Path) -> None:
    assert base_model("someone/classifier") == "someone/classifier"
    assert base_model(str(tmp_path)) is None
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}')
    assert base_model(str(tmp_path)) == "someone/base"
