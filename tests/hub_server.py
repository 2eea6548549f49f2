"""Serve the part of the Hugging Face Hub's API that `huggingface_hub` uses to download and upload a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fresh_process import run_python

INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/?]+))?(?:\?.*)?")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/[^/?]+(?:\?.*)?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<name>.+)")
COMMIT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main")


class Hub(ThreadingHTTPServer):
    """A server with repositories in memory and a log of its requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, bytes]] = {}
        """File contents by repository and file name."""
        self.requests: list[str] = []

    def commit(self, repo: str) -> str:
        """Return the id of the latest commit of a repository."""
        files = self.repositories[repo]
        return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a server for the time of a test."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def python(code: str, hub: Hub, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that uses the local server: the client reads the environment when it is imported."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"} | environment
    return run_python(code, settings)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests; repositories named gated, broken and forbidden fail in the way their name says."""

    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if match := INFO.fullmatch(self.path):
            self.send_info(match["repo"], match["revision"])
        elif match := TREE.fullmatch(self.path):
            self.send_tree(match["repo"])
        elif match := FILE.fullmatch(self.path):
            self.send_file(match["repo"], match["name"])
        else:
            self.send_failure(404)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.create_repository(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self.send_json({"files": [file | {"shouldIgnore": False} for file in files]})
        elif match := COMMIT.fullmatch(self.path):
            self.add_commit(match["repo"], body)
        else:
            self.send_failure(404)

    def send_info(self, repo: str, revision: str | None) -> None:
        if repo == "me/gated":
            return self.send_failure(403, "GatedRepo")
        if repo == "me/broken":
            return self.send_failure(500)
        if repo not in self.server.repositories:
            return self.send_failure(404, "RepoNotFound")
        commit = self.server.commit(repo)
        if revision not in (None, "main", commit):
            return self.send_failure(404, "RevisionNotFound")
        siblings = [{"rfilename": name} for name in self.server.repositories[repo]]
        return self.send_json(
            {"id": repo, "sha": commit, "private": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
        )

    def send_tree(self, repo: str) -> None:
        """Send the list of files, which `huggingface_hub` asks for since 1.0."""
        files = self.server.repositories[repo].items()
        self.send_json([{"type": "file", "path": name, "size": len(content), "oid": name} for name, content in files])

    def send_file(self, repo: str, name: str) -> None:
        if name not in self.server.repositories.get(repo, {}):
            return self.send_failure(404, "EntryNotFound")
        content = self.server.repositories[repo][name]
        tag = hashlib.sha1(content).hexdigest()
        return self.send_body(content, {"ETag": f'"{tag}"', "X-Repo-Commit": self.server.commit(repo)})

    def create_repository(self, fields: dict) -> None:
        repo = f"{fields.get('organization') or 'me'}/{fields['name']}"
        if repo == "me/forbidden":
            return self.send_json({"error": "you may not"}, status=403)
        self.server.repositories.setdefault(repo, {})
        return self.send_json({"url": f"{self.server.address}/{repo}"})

    def add_commit(self, repo: str, body: bytes) -> None:
        for entry in map(json.loads, body.splitlines()):
            if entry["key"] == "file":
                self.server.repositories[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        commit = self.server.commit(repo)
        self.send_json({"commitUrl": f"{self.server.address}/{repo}/commit/{commit}", "commitOid": commit})

    def send_failure(self, status: int, code: str = "") -> None:
        self.send_json({"error": "request failed"}, {"X-Error-Code": code}, status)

    def send_json(self, content: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_body(json.dumps(content).encode(), headers, status)

    def send_body(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing to the output of the tests."""
