"""A stand-in for the hub's HTTP API: repositories in memory, uploads by commits and git LFS, downloads by revision."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """The server; it keeps every request's method, path and token.

    Attributes:
        files: by repository, the content of each path.
        objects: what was uploaded by LFS, by sha256.
        requests: (method, path, token) of every request, in order.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str) -> str:
        content = b"".join(path.encode() + data for path, data in sorted(self.files[repository].items()))
        return hashlib.sha1(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The requests that huggingface_hub 1 and 2 make for one upload and its download."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def answer(self, values: Any = None, status: int = 200, data: bytes | None = None, **headers: str) -> None:
        body = json.dumps(values).encode() if data is None else data
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def seen(self) -> list[str]:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization")
        self.server.requests.append((self.command, path, token and token.removeprefix("Bearer ")))
        return path.strip("/").split("/")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        parts, body = self.seen(), self.body()
        hub = self.server
        if parts == ["api", "repos", "create"]:
            values = json.loads(body)
            name = "/".join(filter(None, (values.get("organization"), values["name"])))
            hub.files.setdefault(name, {".gitattributes": b""})
            hub.private[name] = values.get("visibility") == "private" or bool(values.get("private"))
            self.answer({"url": f"{hub.address}/{name}"})
        elif parts == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []})
        elif parts[-2:-1] == ["preupload"]:
            wanted = [one["path"] for one in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in wanted}
            self.answer(
                {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
            )
        elif parts[-3:] == ["lfs", "objects", "batch"]:
            objects = json.loads(body)["objects"]
            href = {one["oid"]: {"upload": {"href": f"{hub.address}/objects/{one['oid']}"}} for one in objects}
            self.answer({"transfer": "basic", "objects": [{**one, "actions": href[one["oid"]]} for one in objects]})
        elif parts[-2:-1] == ["commit"]:
            repository = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[repository][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[repository][value["path"]] = hub.objects[value["oid"]]
            commit = hub.commit(repository)
            self.answer({"commitUrl": f"{hub.address}/{repository}/commit/{commit}", "commitOid": commit})
        else:
            self.answer({"error": "no such path"}, 404)

    def do_PUT(self) -> None:
        oid, data = self.seen()[-1], self.body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.objects[oid] = data
        self.answer({})

    def do_GET(self) -> None:
        parts = self.seen()
        hub = self.server
        if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in hub.files:
            repository = "/".join(parts[2:4])
            files = hub.files[repository]
            if parts[4:5] == ["tree"]:
                entries = [
                    {"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files.items()
                ]
                self.answer(entries)
            else:
                siblings = [{"rfilename": path} for path in files]
                self.answer(
                    {"id": repository, "modelId": repository, "sha": hub.commit(repository), "siblings": siblings}
                )
        elif parts[2:3] == ["resolve"] and "/".join(parts[:2]) in hub.files:
            repository, path = "/".join(parts[:2]), "/".join(parts[4:])
            data = hub.files[repository].get(path)
            head = {"X_Repo_Commit": hub.commit(repository)}
            if data is None:
                self.answer({}, 404, X_Error_Code="EntryNotFound", **head)
            else:
                self.answer(data=data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', **head)
        else:
            self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def log_message(self, *arguments: Any) -> None: ...


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on this machine, for the time of the block."""
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
