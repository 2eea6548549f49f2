"""Start the page at once, and load models and index meanwhile."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charembed.errors import CharEmbedError, import_extra
from charembed.explore.app import State, create_app
from charembed.util.files import scratch_folder, user_path

_PURPOSE = "charembed explore"


def explore(model: str, corpus: Sequence[str], tagger: str | None, index: str | None, port: int) -> None:
    """Serve the page until Ctrl-C.

    Args:
        model: name of the model.
        corpus: names of the texts to search; none for a page without neighbors and map.
        tagger: name of the tagger; None for no tags.
        index: folder that keeps the index for the next time; by default a temporary one.
        port: port on this machine; 0 for any that is free.

    Raises:
        CharEmbedError: the model or the tagger cannot be loaded, or the corpus cannot be read.
        MissingExtraError: the extra `explore` is not installed.
        OSError: the port is in use.
    """
    for module in ("starlette", "matplotlib"):
        import_extra(module, extra="explore", purpose=_PURPOSE)
    uvicorn = import_extra("uvicorn", extra="explore", purpose=_PURPOSE)
    state = State(model, has_corpus=bool(corpus), has_tagger=tagger is not None)
    # The loopback interface alone: no other machine can connect.
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        scratch_folder("index", ["index", ".index.charembed-*"]) as temporary,
    ):
        config = uvicorn.Config(create_app(state), log_level="warning", lifespan="off", ws="none", server_header=False)
        server = uvicorn.Server(config)
        folder = user_path(index) if index else temporary / "index"
        loader = _Loader(state, server, corpus, tagger, folder)
        loader.start()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/ (Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])
    if loader.error is not None:
        raise loader.error


class _Loader(threading.Thread):
    """Loads the model, the tagger and the index. Ends the server if the first two cannot be loaded."""

    def __init__(self, state: State, server: Any, corpus: Sequence[str], tagger: str | None, index: Path) -> None:
        super().__init__(daemon=True)
        self._state, self._server = state, server
        self._corpus, self._tagger, self._index = list(corpus), tagger, index
        self.error: Exception | None = None
        """What went wrong."""

    def run(self) -> None:
        try:
            self._load()
        except Exception as error:  # raised where the server ends: the page would wait for ever
            self.error = error
            self._server.should_exit = True

    def _load(self) -> None:
        from charembed.embedding.embedder import CharEmbedder
        from charembed.explore.workspace import Workspace
        from charembed.tagging.tagger import Tagger

        state = self._state
        embedder = CharEmbedder.from_pretrained(state.model, cache_mb=32)
        state.workspace = Workspace(embedder, None if self._tagger is None else Tagger.load(self._tagger))
        if self._corpus:
            state.stage = "indexing"
            self._open_index(embedder, state.workspace)
        state.stage = "ready"

    def _open_index(self, embedder: Any, workspace: Any) -> None:
        from charembed.embedding.occurrence_index import open_index
        from charembed.text.corpus import Corpus

        def progress(done: int, total: int) -> None:
            self._state.share = done / max(1, total)

        try:
            workspace.index = open_index(embedder, Corpus(self._corpus), self._index, progress)
            self._state.occurrences = len(workspace.index.occurrences)
        except CharEmbedError as error:
            # The page is of use without it.
            self._state.notice = str(error)
            print(f"charembed: there are no neighbors and no map: {error}", file=sys.stderr)
