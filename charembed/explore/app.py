"""The page, and what it asks for."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charembed.errors import CharEmbedError
from charembed.explore.local_only import LocalOnly

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from charembed.explore.workspace import Workspace

_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/app.css": ("app.css", "text/css"),
}


@dataclass
class State:
    """What the server has loaded so far. The thread that loads writes it."""

    model: str
    """Name of the model."""
    has_corpus: bool
    """Whether a corpus is given."""
    has_tagger: bool
    """Whether a tagger is given."""
    stage: str = "loading"
    """loading, indexing or ready."""
    share: float = 0.0
    """Share of the corpus that is indexed."""
    occurrences: int = 0
    """Number of words in the index."""
    notice: str = ""
    """Why there is no index although there is a corpus."""
    workspace: Workspace | None = field(default=None, repr=False)
    """What reads texts, once it is there."""

    def public(self) -> dict[str, Any]:
        """Return what the page is told."""
        return {name: value for name, value in self.__dict__.items() if name != "workspace"}


def create_app(state: State) -> Starlette:
    """Return the application that serves the page."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import Response
    from starlette.routing import Route

    static = Path(str(importlib.resources.files("charembed.explore").joinpath("static")))

    def serve(name: str, kind: str) -> Callable[[Request], Response]:
        content = (static / name).read_bytes()
        return lambda _: Response(content, media_type=kind)

    def status(_: Request) -> Response:
        return _json(state.public())

    routes = [Route(path, serve(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/api/status", status),
        Route("/api/read", _command(state, lambda w, body: w.read(_text(body))), methods=["POST"]),
        Route(
            "/api/neighbors",
            _command(state, lambda w, body: w.neighbors(_text(body), _integer(body, "word"))),
            methods=["POST"],
        ),
        Route("/api/map", _command(state, lambda w, body: w.map(_words(body))), methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(LocalOnly)])


def _command(state: State, run: Callable[[Workspace, dict[str, Any]], Any]) -> Callable[[Request], Any]:
    """Return what answers a request with the result of a function, or with its error."""
    from starlette.concurrency import run_in_threadpool

    async def answer(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            if not isinstance(body, dict):
                raise CharEmbedError("a request is a JSON object")
            if state.workspace is None:
                raise CharEmbedError("the model is still being loaded")
            return _json(await run_in_threadpool(run, state.workspace, body))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            return _json({"error": "a request is a JSON object"}, status=400)
        except CharEmbedError as error:
            # An answer in words for the reader of the page; browsers log other statuses as errors of the page.
            return _json({"error": str(error)})

    return answer


def _json(content: Any, status: int = 200) -> Response:
    from starlette.responses import Response

    # Only ASCII: UTF-8 cannot hold the lone surrogates that a text may have.
    return Response(json.dumps(content), status_code=status, media_type="application/json")


def _text(body: dict[str, Any]) -> str:
    text = body.get("text")
    if not isinstance(text, str):
        raise CharEmbedError("text must be text")
    return text


def _integer(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CharEmbedError(f"{name} must be a whole number")
    return value


def _words(body: dict[str, Any]) -> list[str]:
    words = body.get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CharEmbedError("words must be a list of words")
    return words
