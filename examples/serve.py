"""Predictions with their explanations over HTTP, by LitServe; concurrent requests go through the model together.

pip install "amortex[serve]"
python examples/serve.py --method checkpoints/demo-attributor
curl -s localhost:8000/predict --json '{"text": "The plot is thin, but the acting is simply wonderful."}'

{"label": "positive", "probabilities": {"negative": ..., "positive": ...}, "target": "positive", "method": "explainer",
 "words": [{"word": "The", "score": ..., "start": 0, "end": 3, "segment": 0}, ...]}

A request may have a `text_pair` and a `target` (the label or index that the scores are evidence for). A request that
cannot be answered gets status 422 and the reason, and does not disturb those that it was batched with. For a regression
`label` and `probabilities` are null, and `value` is the predicted value. `GET /health` says when the server is ready,
`/docs` shows the rest.
"""

import signal
from typing import Any

import litserve
import torch
from jsonargparse import auto_cli
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr
from starlette.responses import JSONResponse

from explainer import Attributor, Explanation
from explainer.commands.attribute import load


class Request(BaseModel):
    """The JSON of one request; any other is refused before it is batched."""

    model_config = ConfigDict(extra="forbid")
    text: StrictStr
    text_pair: StrictStr | None = None
    target: StrictStr | StrictInt = "predicted"


class Server(litserve.LitAPI):
    """An attributor behind LitServe."""

    def __init__(self, method: str, model: str | None, threads: int | None, **options: Any) -> None:
        super().__init__(**options)
        self.method, self.model, self.threads = method, model, threads

    def setup(self, device: str) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        self.attributor: Attributor = load(self.method, self.model, batch_tokens=4096, settings={}).to(device)

    def decode_request(self, request: Request) -> Request:
        return request

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, requests: list[Request]) -> list[Explanation | ValueError]:
        """Each request's explanation, or the reason that there is none.

        An error raised here would reach all requests of the batch.
        """
        answers: list[Any] = [self.problem(request) for request in requests]
        good = [i for i, problem in enumerate(answers) if problem is None]
        explanations = self.attributor(
            [requests[i].text for i in good],
            [requests[i].text_pair for i in good],
            target=[requests[i].target for i in good],
        )
        for i, explanation in zip(good, explanations, strict=True):
            answers[i] = explanation
        return answers

    def problem(self, request: Request) -> ValueError | None:
        """The reason why a well-formed request cannot be answered, if there is one."""
        try:
            self.attributor.explained.task.target(request.target, 1)
            self.attributor.explained.encode([request.text], [request.text_pair])
        except ValueError as error:
            return error
        return None

    def unbatch(self, output: list[Explanation | ValueError]) -> list[Explanation | ValueError]:
        return output

    def encode_response(self, output: Explanation | ValueError) -> JSONResponse:
        if isinstance(output, ValueError):
            return JSONResponse({"detail": str(output)}, status_code=422)
        return JSONResponse(reply(output, self.attributor.explained.labels))


def reply(explanation: Explanation, labels: list[str]) -> dict[str, Any]:
    """The JSON of one answer: the prediction, and the words with their evidence for (+) or against the target."""
    probabilities = explanation.probabilities
    return {
        "label": explanation.predicted_label,
        "probabilities": None if probabilities is None else dict(zip(labels, probabilities, strict=True)),
        **({"value": explanation.value} if probabilities is None else {}),
        "target": explanation.target_label,
        "method": explanation.method,
        "words": [word._asdict() for word in explanation.words()],
    }


def main(
    method: str,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    batch_size: int = 16,
    batch_seconds: float = 0.005,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        method: the folder or hub id of an exported attributor, or a method's name with a model.
        model: the explained model, where the method does not name its own.
        host: 127.0.0.1 for this machine alone, 0.0.0.0 for all.
        port: of the server.
        batch_size: the largest number of requests that go through the model together.
        batch_seconds: how long the first of them waits for the others.
        accelerator: auto, cpu, cuda or mps.
        threads: of the processor, for the model.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else LitServe's processes outlive a terminated server
    server = Server(method, model, threads, max_batch_size=batch_size, batch_timeout=batch_seconds)
    litserve.LitServer(server, accelerator=accelerator).run(
        host=host, port=port, num_api_servers=1, log_level="warning", generate_client_file=False
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
