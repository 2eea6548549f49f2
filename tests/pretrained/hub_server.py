"""A stand-in for the Hugging Face Hub, as far as `huggingface_hub` asks it to fetch and to push a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Repositories in memory, and what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.address = ""

    def commit(self, repo: str) -> str:
        files = self.repositories[repo]
        return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path):
                repo, revision = match.groups()
                if repo not in hub.repositories:
                    return self.missing("RepoNotFound")
                if revision not in (None, "main", hub.commit(repo)):
                    return self.missing("RevisionNotFound")
                siblings = [{"rfilename": name} for name in hub.repositories[repo]]
                return self.answer({"id": repo, "sha": hub.commit(repo), "private": False, "siblings": siblings})
            if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
                repo, _, name = match.groups()
                if name not in hub.repositories.get(repo, {}):
                    return self.missing("EntryNotFound")
                content = hub.repositories[repo][name]
                tag = hashlib.sha1(content).hexdigest()
                return self.answer(content, {"ETag": f'"{tag}"', "X-Repo-Commit": hub.commit(repo)})
            return self.missing("")

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
                if repo == "me/forbidden":
                    return self.answer({"error": "you may not"}, status=403)
                hub.repositories.setdefault(repo, {})
                return self.answer({"url": f"{hub.address}/{repo}"})
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
                return self.answer({"files": [file | {"shouldIgnore": False} for file in files]})
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        value = entry["value"]
                        hub.repositories[match[1]][value["path"]] = base64.b64decode(value["content"])
                commit = hub.commit(match[1])
                return self.answer({"commitUrl": f"{hub.address}/{match[1]}/commit/{commit}", "commitOid": commit})
            return self.missing("")

        def missing(self, code: str) -> None:
            self.answer({"error": "not found"}, {"X-Error-Code": code}, 404)

        def answer(self, content: object, headers: dict[str, str] | None = None, status: int = 200) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
