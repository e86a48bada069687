"""Predictions with their explanations over HTTP, by LitServe; concurrent requests go through the model together.

pip install "amortex[serve]"
python examples/serve.py --method checkpoints/demo-attributor
curl -s localhost:8000/predict --json '{"text": "The plot is thin, but the acting is simply wonderful."}'

{"label": "positive", "probabilities": {"negative": ..., "positive": ...}, "target": "positive", "method": "explainer",
 "words": [{"word": "The", "score": ..., "start": 0, "end": 3, "segment": 0}, ...]}

A request may have a `text_pair` and a `target` (the label or index that the scores are evidence for). A request that
cannot be answered gets the reason with status 400 or 422, one that is too long with status 413. It does not disturb
those that it was batched with. For a regression `label` and `probabilities` are null, and `value` is the predicted
value. `GET /health` says when the server is ready, `/docs` shows the rest.
"""

import json
import signal
from dataclasses import dataclass
from typing import Any

import litserve
import torch
from fastapi.exceptions import RequestValidationError
from jsonargparse import auto_cli
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from explainer import Explanation
from explainer.attributor.options import CallOptions
from explainer.commands.loading import load_attributor, of_texts
from explainer.explained import EncodedText


class Request(BaseModel):
    """The JSON of one request; any other is refused before it is batched."""

    model_config = ConfigDict(extra="forbid")
    text: StrictStr
    text_pair: StrictStr | None = None
    target: StrictStr | StrictInt = "predicted"


@dataclass(frozen=True)
class Refusal:
    """The reason why a request is not answered, with its HTTP status."""

    status: int
    reason: str


class Server(litserve.LitAPI):
    """An attributor behind LitServe.

    Args:
        max_characters: of a text and its pair together; while a longer one is tokenized, nobody else would be served.
    """

    def __init__(
        self, method: str, model: str | None, threads: int | None, max_characters: int = 50_000, **options: Any
    ) -> None:
        super().__init__(**options)
        self.method, self.model, self.threads, self.max_characters = method, model, threads, max_characters

    def setup(self, device: str) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        attributor = load_attributor(self.method, self.model, batch_tokens=4096, settings={})
        self.attributor = of_texts(self.method, attributor).to(device)

    def decode_request(self, request: Request) -> Request:
        return request

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, requests: list[Request]) -> list[Explanation | Refusal]:
        """Each request's explanation, or the reason that there is none.

        An error raised here would reach all requests of the batch.
        """
        answers: list[Any] = [self.encoded(request) for request in requests]
        good = [i for i, answer in enumerate(answers) if isinstance(answer, EncodedText)]
        texts, targets = [answers[i] for i in good], [requests[i].target for i in good]
        for i, answer in zip(good, self.explained(texts, targets), strict=True):
            answers[i] = answer
        return answers

    def encoded(self, request: Request) -> EncodedText | Refusal:
        """The request's text as tokens, or the reason why a well-formed request cannot be answered."""
        characters = len(request.text) + len(request.text_pair or "")
        if characters > self.max_characters:
            return Refusal(413, f"`text` has {characters} characters, and this server takes {self.max_characters}.")
        try:
            self.attributor.explained.task.target(request.target, 1)
            return self.attributor.explained.encode([request.text], [request.text_pair])[0]
        except (TypeError, ValueError) as error:  # the tokenizer's own for half a surrogate pair is a TypeError
            return Refusal(422, str(error))

    def explained(self, texts: list[EncodedText], targets: list[str | int]) -> list[Explanation | Refusal]:
        """The explanations; where the texts fail together, each is tried alone, so that only those at fault fail."""
        try:
            return self.attributor.explain(texts, CallOptions.of(target=targets))
        except ValueError as error:
            if len(texts) == 1:
                return [Refusal(422, str(error))]
            one_by_one = zip(texts, targets, strict=True)
            return [answer for text, target in one_by_one for answer in self.explained([text], [target])]

    def unbatch(self, output: list[Explanation | Refusal]) -> list[Explanation | Refusal]:
        return output

    def encode_response(self, output: Explanation | Refusal) -> Response:
        if isinstance(output, Refusal):
            return json_response({"detail": output.reason}, output.status)
        return json_response(reply(output, self.attributor.explained.labels))


def json_response(content: Any, status: int = 200) -> Response:
    """JSON in ASCII: a message may quote characters that UTF-8 cannot express."""
    return Response(json.dumps(content, allow_nan=False), status, media_type="application/json")


async def malformed(request: HTTPRequest, error: Exception) -> Response:
    """The answer to a request that is not of the form of `Request`: each fault and its place, without the input."""
    assert isinstance(error, RequestValidationError)
    faults = [{"loc": fault["loc"], "msg": fault["msg"], "type": fault["type"]} for fault in error.errors()]
    return json_response({"detail": faults}, 422)


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
    max_characters: int = 50_000,
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
        max_characters: of a text and its pair together.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else LitServe's processes outlive a terminated server
    api = Server(method, model, threads, max_characters, max_batch_size=batch_size, batch_timeout=batch_seconds)
    # JSON may take twelve bytes for a character (\ud83d\ude00); the rest of a request is short.
    server = litserve.LitServer(api, accelerator=accelerator, max_payload_size=12 * max_characters + 10_000)
    server.app.add_exception_handler(RequestValidationError, malformed)
    server.run(host=host, port=port, num_api_servers=1, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
