"""A corpus with hostile text, and a model and a tagger to read it with."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import small_model, small_tagger

from charembed import CharEmbedder, Corpus
from charembed.explore.app import State
from charembed.explore.workspace import Workspace

HOSTILE = '<img src=x onerror="document.title=1"> fox <script>document.title=2</script> $fox$ &amp;'
"""A line of the corpus."""


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    """What `charembed explore` has when everything is loaded."""
    from charembed.embedding.occurrence_index import open_index

    folder = tmp_path_factory.mktemp("explore")
    lines = [f"The lazy dog number {k} jumps over the quick fox." for k in range(9)]
    (folder / "corpus.txt").write_text("\n".join([HOSTILE, *lines]), encoding="utf-8")
    embedder = CharEmbedder(small_model())
    workspace = Workspace(embedder, small_tagger(embedder))
    workspace.index = open_index(embedder, Corpus(str(folder / "corpus.txt")), Path(folder, "index"))
    state = State("small", has_corpus=True, has_tagger=True, stage="ready", workspace=workspace)
    state.occurrences = len(workspace.index.occurrences)
    return state
