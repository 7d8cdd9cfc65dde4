"""A server on the loopback address that speaks the download protocol of a hub of models."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound", 429: "RateLimited"}


class Hub:
    """What the server contains and how it answers.

    Attributes:
        files: Contents by repository and name of the file.
        requests: Method and path of each request, in order.
        status: The status of answers instead of 200, if it is set.
        broken: After how many bytes transfers of large files break off, if they do.
        damaged: Whether large files are transferred with a wrong byte at their end.
        redirects: Whether files that are larger than ``large`` bytes are on another host.
        ranges: From which byte on files were asked for.
        proxied: Hosts that clients asked this server for as their proxy.
    """

    large = 1000

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.status: int | None = None
        self.broken: int | None = None
        self.damaged = False
        self.redirects = False
        self.ranges: list[int] = []
        self.proxied: list[str] = []
        self.url = ""

    def add(self, repository: str, folder: Path) -> None:
        """Publish the files of a folder."""
        for path in folder.iterdir():
            self.files[repository, path.name] = path.read_bytes()

    def fetched(self) -> list[str]:
        """Return the names of the files that were transferred."""
        return [path.rpartition("/")[2] for method, path in self.requests if method == "GET"]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub in a thread for the length of a block."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _answer(self, body: bool) -> None:
        hub = self.hub
        if self.path.startswith("http://"):  # as clients ask a proxy
            _, _, host, self.path = self.path.split("/", 3)
            hub.proxied.append(host)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if len(parts) < 4 or (parts[2] != "resolve" and parts[0] != "elsewhere"):
            return self._model_info(parts) if parts[:2] == ["api", "models"] else self._plain(404)
        hub.requests.append((self.command, self.path))
        elsewhere = parts[0] == "elsewhere"
        repository, name = "/".join(parts[1:3] if elsewhere else parts[:2]), parts[-1]
        if hub.status is not None:
            return self._plain(hub.status)
        content = hub.files.get((repository, name))
        if content is None:
            known = any(each == repository for each, _ in hub.files)
            return self._plain(404, "EntryNotFound" if known else "RepoNotFound")
        if hub.redirects and not elsewhere and len(content) > hub.large:
            return self._redirect(repository, name, content)
        return self._send(content, body)

    def _send(self, content: bytes, body: bool) -> None:
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.hub.ranges.append(start)
        self.send_response(206 if start else 200)
        self._describe(content)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return
        if self.hub.damaged and len(content) > self.hub.large:
            content = content[:-1] + bytes([content[-1] ^ 1])
        broken = self.hub.broken if len(content) > self.hub.large else None
        if broken is None:
            self.wfile.write(content[start:])
            return
        self.wfile.write(content[start : start + broken])
        self.wfile.flush()
        self.close_connection = True

    def _describe(self, content: bytes) -> None:
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")

    def _redirect(self, repository: str, name: str, content: bytes) -> None:
        self.send_response(302)
        self._describe(content)
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        other = self.hub.url.replace("127.0.0.1", "localhost")
        self.send_header("Location", f"{other}/elsewhere/{repository}/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _model_info(self, parts: list[str]) -> None:
        repository = "/".join(parts[2:4])
        names = [name for each, name in self.hub.files if each == repository]
        if not names or self.hub.status is not None:
            return self._plain(self.hub.status or 404)
        siblings = [{"rfilename": name} for name in names]
        content = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def _plain(self, status: int, code: str | None = None) -> None:
        self.send_response(status)
        code = code or CODES.get(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()
