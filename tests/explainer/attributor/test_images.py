"""Images to explanations, by calls and by the command."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainer import Attributor, ImageAttributor
from explainer.attributor import CallOptions
from explainer.commands.attribute import attribute
from explainer.commands.compare import compare
from explainer.commands.evaluate import evaluate
from explainer.explained import ExplainedImageModel, Target
from explainer.faithfulness import faithfulness
from explainer.methods.loading import load_method
from tests.explainer.explained.test_image import explained


def pictures(n: int = 2) -> list[Any]:
    return [*np.random.default_rng(0).integers(0, 255, (n, 24, 12, 3), dtype=np.uint8)]


def saved(folder: Path) -> Path:
    model = explained()
    model.model.save_pretrained(folder / "model")
    model.processor.save_pretrained(folder / "model")
    return folder / "model"


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_call_gives_the_scores_of_the_patches_and_pictures_of_them(tmp_path: Path) -> None:
    attributor = ImageAttributor.of(explained(), "attn_lrp", gamma=0.1)
    first, second = attributor(pictures(), target=["LABEL_1", 2], trust=True)
    assert first.patches == (3, 3)
    assert len(first.scores) == len(first.boxes) == 9
    assert first.boxes[5] == (8, 4, 12, 8)
    assert (first.target_label, second.target, second.image) == ("LABEL_1", 2, "image 1")
    assert first.trust is not None
    tokens = Attributor(explained(), attributor.method).explain(
        explained().encode(pictures()[:1]), CallOptions(target="LABEL_1")
    )[0]
    assert first.scores == pytest.approx(tokens.scores[1:], rel=1e-4)
    (every,) = attributor(pictures(1), targets="all")
    assert list(every) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    # What is shown is the image as the model reads it: resized, in its own colours.
    resized = np.asarray(Image.fromarray(pictures()[0]).resize((12, 12), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(first.picture.astype(int) - resized).max() <= 1
    first.to_png(tmp_path / "a.png")
    first.to_html(tmp_path / "a.html")
    with Image.open(tmp_path / "a.png") as shown:
        assert shown.size == (336, 336)
    assert (tmp_path / "a.html").read_text().count("data:image/png;base64") == 2
    assert len(first.plot().axes) == 2


def test_the_command_writes_a_line_per_image_and_a_page(tmp_path: Path) -> None:
    for i, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    source = lines(
        tmp_path / "in.jsonl",
        {"image": str(tmp_path / "0.png"), "id": "a"},
        {"image": str(tmp_path / "1.png"), "target": "LABEL_2"},
        {"image": str(tmp_path / "1.png"), "target": "all"},
    )
    output, page = tmp_path / "out.jsonl", tmp_path / "page.html"
    options: dict[str, Any] = {"model": str(saved(tmp_path)), "input": source, "output": output, "html": page}
    attribute("leave_one_out", **options, task="image-classification", trust=True)
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [record["id"] for record in records] == ["a", 1, 2, 2, 2]
    assert [record["target_label"] for record in records[1:]] == ["LABEL_2", "LABEL_0", "LABEL_1", "LABEL_2"]
    assert records[0]["patches"] == [3, 3]
    assert len(records[0]["scores"]) == 9
    assert sum(records[0]["probabilities"]) == pytest.approx(1)
    assert {"image", "target", "method", "probability", "value", "predicted_label", "trust"} <= set(records[0])
    assert page.read_text().count("data:image/png;base64") == 10


def test_what_the_command_cannot_read_is_named(tmp_path: Path) -> None:
    Image.fromarray(pictures()[0]).save(tmp_path / "good.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    options: dict[str, Any] = {"model": str(saved(tmp_path)), "output": tmp_path / "out.jsonl"}
    options |= {"method": "attn_lrp", "task": "image-classification"}
    for name, reason in (("none.png", "no such file"), ("broken.jpg", "no image that can be read")):
        source = lines(tmp_path / "in.jsonl", {"image": str(tmp_path / "good.png")}, {"image": str(tmp_path / name)})
        with pytest.raises(ValueError, match=rf"in.jsonl, line 2: `image` '.*{name}'.*{reason}"):
            attribute(**options, input=source)
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    with pytest.raises(ValueError, match=r"line 1: `image` must be a string, got None"):
        attribute(**options, input=lines(tmp_path / "in.jsonl", {"text": "a"}))
    with pytest.raises(ValueError, match="does not read --units"):
        attribute(**options, input=tmp_path / "in.jsonl", units="word")


def written(folder: Path) -> tuple[Path, Path]:
    """A file of two images, and a model."""
    for i, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{i}.png")
    records = ({"image": str(folder / f"{i}.png"), "label": "LABEL_0"} for i in range(2))
    return lines(folder / "in.jsonl", *records), saved(folder)


def test_what_attribute_writes_is_evaluated_as_its_scores_are(tmp_path: Path) -> None:
    source, model = written(tmp_path)
    output, report = tmp_path / "out.jsonl", tmp_path / "report.json"
    attribute("sig", model=str(model), input=source, output=output, task="image-classification", target="LABEL_1")
    for operator in ("replace", "delete"):
        given: dict[str, Any] = {} if operator == "replace" else {"operator": operator}  # replace is the default
        evaluate(str(model), output, report, task="image-classification", **given)
        found = json.loads(report.read_text())
        images = ExplainedImageModel.from_pretrained(model)
        encoded = images.encode([str(tmp_path / f"{i}.png") for i in range(2)])
        attributions = load_method("sig").attribute(images, encoded, Target.of([1, 1]))
        expected = faithfulness(images, attributions, list(found), operator=operator)
        for metric, values in expected.items():
            assert found[metric]["values"] == pytest.approx(values.tolist(), abs=1e-5)
            assert (found[metric]["operator"], found[metric]["n"]) == (operator, 2)


def test_evaluate_names_the_line_of_an_image_that_it_cannot_use(tmp_path: Path) -> None:
    source, model = written(tmp_path)
    output = tmp_path / "out.jsonl"
    attribute("random", model=str(model), input=source, output=output, task="image-classification")
    record = json.loads(output.read_text().splitlines()[0])
    for change, reason in {
        "line 1: `scores` must be a list of 9 numbers, one per patch, got [1.0]": {"scores": [1.0]},
        "line 1: `target` must be an index of this model's 3 outputs, got 3": {"target": 3},
        "line 1: `image` 'none.png'": {"image": "none.png"},
        "line 1: `scores` are beyond single precision": {"scores": [1e300] * 9},
    }.items():
        with pytest.raises(ValueError, match=re.escape(change)):
            evaluate(str(model), lines(output, {**record, **reason}), tmp_path / "r.json", task="image-classification")
    with pytest.raises(ValueError, match="does not read --labels"):
        evaluate(str(model), output, tmp_path / "r.json", task="image-classification", labels="a,b")


def test_compare_measures_images_and_shows_them(tmp_path: Path) -> None:
    source, model = written(tmp_path)
    options: dict[str, Any] = {"n": 2, "output": tmp_path / "compared", "task": "image-classification"}
    options |= {"methods": "random,sig", "metrics": ["comprehensiveness"], "target": "LABEL_1"}
    compare(str(model), str(source), **options)
    records = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    images = ExplainedImageModel.from_pretrained(model)
    encoded = images.encode([str(tmp_path / f"{i}.png") for i in range(2)])
    attributions = load_method("sig").attribute(images, encoded, Target.of([1, 1]))
    expected = faithfulness(images, attributions, ["comprehensiveness"], operator="replace")["comprehensiveness"]
    (sig,) = [record for record in records if record["method"] == "sig"]
    assert sig["comprehensiveness"]["mean"] == pytest.approx(float(expected.mean()), abs=1e-5)
    assert sig["operators"]["comprehensiveness"] == "replace"
    page = (tmp_path / "compared" / "report.html").read_text()
    assert page.count("data:image/png;base64") >= 8  # two images by two methods, beside the image itself
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"in.jsonl, line 1: `image` '.*0.png'.*no image that can be read"):
        compare(str(model), str(source), **options)
