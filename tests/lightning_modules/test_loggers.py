"""Figures and tables reach every logger in its own way."""

import csv
import inspect
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from explainer.evaluation.table import markdown_table
from lightning_modules.cli import main
from lightning_modules.loggers import log_figure, log_table
from tests.lightning_modules.conftest import write

COLUMNS, ROWS = ["method", "faithfulness"], [["random", "0.0"], ["a|b", "0.3 [0.2, 0.4]"]]


def figure() -> Figure:
    made = Figure(figsize=(2, 1))
    made.text(0.1, 0.5, "a text")
    return made


class Plain(Logger):
    """A logger that can only take numbers."""

    name = "plain"
    version = 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...


class Weights(Plain):
    """The methods of Lightning's W&B logger; their arguments are bound to its signatures."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, dict[str, Any]] = {}

    def log_image(self, **given: Any) -> None:
        self.logged["image"] = inspect.signature(WandbLogger.log_image).bind(self, **given).arguments

    def log_table(self, **given: Any) -> None:
        self.logged["table"] = inspect.signature(WandbLogger.log_table).bind(self, **given).arguments


class Client:
    """`MlflowClient`, as far as it is used, with the signatures of mlflow 3.17."""

    def __init__(self) -> None:
        self.logged: list[tuple[Any, ...]] = []

    def log_figure(self, run_id: str, figure: Figure, artifact_file: str, *, save_kwargs: Any = None) -> None:
        self.logged.append((run_id, type(figure), artifact_file))

    def log_table(self, run_id: str, data: dict[str, Any], artifact_file: str) -> None:
        assert artifact_file.endswith((".json", ".parquet"))
        self.logged.append((run_id, data, artifact_file))


class Flow(MLFlowLogger):
    """Lightning's MLflow logger without the package."""

    def __init__(self) -> None:
        Logger.__init__(self)
        self.client = Client()

    @property
    def experiment(self) -> Any:
        return self.client

    @property
    def run_id(self) -> str:
        return "run"


def test_tensorboard_gets_an_image_and_a_text(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version="")
    log_figure([logger], "validation/heatmaps", figure(), 3)
    log_table([logger], "test/comparison", COLUMNS, ROWS, 3)
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [image.step for image in events.Images("validation/heatmaps")] == [3]
    (text,) = events.Tensors("test/comparison/text_summary")
    assert text.tensor_proto.string_val[0].decode() == markdown_table(COLUMNS, ROWS)
    assert r"a\|b" in markdown_table(COLUMNS, ROWS)


def test_a_logger_of_files_gets_files(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="run", version="")
    log_figure([logger], "validation/heatmaps", figure(), 3)
    log_table([logger], "test/comparison", COLUMNS, ROWS, 12)
    assert (tmp_path / "run/validation/heatmaps-00000003.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "run/test/comparison-00000012.csv", newline="") as file:
        assert list(csv.reader(file)) == [COLUMNS, *ROWS]


def test_weights_and_biases_gets_an_image_and_a_table() -> None:
    logger = Weights()
    log_figure([logger], "validation/heatmaps", figure(), 3)
    log_table([logger], "test/comparison", COLUMNS, ROWS, 3)
    image, table = logger.logged["image"], logger.logged["table"]
    assert (image["key"], image["step"]) == ("validation/heatmaps", 3)
    assert image["images"][0].shape == (100, 200, 4)
    assert (table["key"], table["columns"], table["data"], table["step"]) == ("test/comparison", COLUMNS, ROWS, 3)


def test_mlflow_gets_artifacts_of_its_run() -> None:
    logger = Flow()
    log_figure([logger], "validation/heatmaps", figure(), 3)
    log_table([logger], "test/comparison", COLUMNS, ROWS, 3)
    assert logger.client.logged == [
        ("run", Figure, "validation/heatmaps/00000003.png"),
        (
            "run",
            {"method": ["random", "a|b"], "faithfulness": ["0.0", "0.3 [0.2, 0.4]"]},
            "test/comparison/00000003.json",
        ),
    ]


def test_several_loggers_get_the_same_and_one_without_a_way_is_named(tmp_path: Path) -> None:
    loggers = [Plain(), CSVLogger(tmp_path, name="run", version="")]
    with pytest.warns(UserWarning, match="Plain takes no figures or tables"):
        log_figure(loggers, "picture", figure(), 0)
    assert (tmp_path / "run/picture-00000000.png").is_file()


def test_a_training_with_a_logger_of_files_has_its_pictures_and_its_table(
    configuration: dict[str, Any], tmp_path: Path
) -> None:
    configuration["trainer"]["logger"]["class_path"] = "pytorch_lightning.loggers.CSVLogger"
    configuration["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.Heatmaps", "init_args": {"n_texts": 2}},
        {"class_path": "lightning_modules.callbacks.MethodComparison", "init_args": {"methods": {"random": {}}}},
    ]
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    assert [file.name for file in sorted((tmp_path / "run/validation").glob("*"))] == [
        "heatmaps-00000003.png",
        "heatmaps-00000006.png",
    ]
    configuration["trainer"]["logger"]["init_args"]["name"] = "tested"
    config = write(configuration, tmp_path / "config.yaml")
    main(["test", "--config", config, "--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt")])
    (table,) = tmp_path.glob("tested/**/comparison-*.csv")
    with open(table, newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["method", "random", "explainer"]
    (metrics,) = tmp_path.glob("tested/**/metrics.csv")
    assert "/random" in metrics.read_text()
