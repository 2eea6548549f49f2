"""What the page is answered, and who is not."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import socket
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import AWKWARD_TEXTS, small_model

if importlib.util.find_spec("usearch") is None:  # importing it before ONNX Runtime would crash the latter
    pytest.skip("needs usearch", allow_module_level=True)
pytest.importorskip("starlette")
pytest.importorskip("httpx")

import httpx

from charembed.cli.main import main
from charembed.explore.app import State, create_app
from charembed.explore.workspace import MAX_CHARACTERS
from charembed.lm.surprise import surprise
from charembed.text.words import find_words


class Client:
    """Sends requests to the application, without a network."""

    def __init__(self, state: State) -> None:
        self._app = create_app(state)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        import asyncio

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
                content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
                sent = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
                return await client.request(method, path, content=content, headers=sent)

        return asyncio.run(answer())

    def post(self, path: str, **body: object) -> httpx.Response:
        return self.send("POST", path, body)


@pytest.fixture(scope="module")
def client(state: State) -> Client:
    return Client(state)


@pytest.mark.parametrize("text", AWKWARD_TEXTS)
def test_any_text_is_read(client: Client, text: str) -> None:
    answer = client.post("/api/read", text=text)
    if len(text) > MAX_CHARACTERS:
        assert answer.json() == {"error": "the text has 10,000 characters, and the page shows at most 5,000"}
        return
    assert answer.status_code == 200
    read, pretrained = answer.json(), small_model()
    assert read["text"] == text
    assert read["words"] == find_words(text).tolist()
    assert [len(tags) for tags in read["tags"].values()] == [len(read["words"])]
    expected = surprise(pretrained.model, pretrained.vocab, text)
    for direction, bits in read["surprise"].items():
        assert bits == pytest.approx(expected[direction].tolist(), abs=0.01)
    known = set(pretrained.vocab.characters)
    assert read["unknown"] == [k for k, character in enumerate(text) if character not in known]


def test_entities_are_those_of_the_tagger(client: Client, state: State) -> None:
    text = "The lazy dog jumps over 東."
    tagged = state.workspace._tagger.predict([text])[0]
    found = client.post("/api/read", text=text).json()["entities"]
    assert [one[:3] for one in found] == [[one.start, one.end, one.label] for one in tagged.entities]


def test_neighbors_are_excerpts_of_the_corpus(client: Client) -> None:
    found = client.post("/api/neighbors", text="The quick dog", word=2).json()
    assert len(found) > 3
    assert len(found) == 8
    assert "dog" not in {one["word"] for one in found}
    assert all(one["before"] + one["word"] + one["after"] for one in found)


def test_a_map_has_every_occurrence(client: Client) -> None:
    answer = client.post("/api/map", words=["fox", "Lazy"]).json()
    assert [point["word"] for point in answer["points"]] == ["fox"] * 11 + ["lazy"] * 9
    svg = "{http://www.w3.org/2000/svg}"
    drawn = ElementTree.fromstring(answer["svg"])
    groups = [drawn.find(f".//{svg}g[@id='map-points-{k}']").findall(f".//{svg}use") for k in range(2)]
    assert list(map(len, groups)) == [11, 9]
    assert len(client.post("/api/map", words=["number"]).json()["points"]) == 9
    assert len(client.post("/api/map", words=["amp"]).json()["points"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/api/map", {"words": []}, "a map shows from 1 to 5 words, got 0"),
        ("/api/map", {"words": list("abcdef")}, "a map shows from 1 to 5 words, got 6"),
        ("/api/map", {"words": ["unheard"]}, "the corpus does not contain the word 'unheard'"),
        ("/api/map", {"words": "fox"}, "words must be a list of words"),
        ("/api/neighbors", {"text": "a fox", "word": 2}, "the text has no word number 2"),
        ("/api/neighbors", {"text": "a fox", "word": -1}, "the text has no word number -1"),
        ("/api/neighbors", {"text": "a fox", "word": True}, "word must be a whole number"),
        ("/api/read", {}, "text must be text"),
        ("/api/read", ["text"], "a request is a JSON object"),
        ("/api/read", b"{", "a request is a JSON object"),
    ],
)
def test_bad_requests(client: Client, path: str, body: object, problem: str) -> None:
    assert client.send("POST", path, body).json() == {"error": problem}


def test_before_everything_is_there(state: State) -> None:
    loading = dataclasses.replace(state, stage="loading", workspace=None)
    assert Client(loading).post("/api/read", text="a").json() == {"error": "the model is still being loaded"}
    assert Client(loading).send("GET", "/api/status").json()["stage"] == "loading"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8765"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"content_type": "text/plain"},
        {"content_length": "200001"},
    ],
)
def test_other_origins_and_hosts_are_refused(client: Client, headers: dict[str, str]) -> None:
    assert client.send("POST", "/api/read", {"text": "a"}, **headers).status_code == 403
    same = {"origin": "http://127.0.0.1:8765", "sec_fetch_site": "same-origin"}
    assert client.send("POST", "/api/read", {"text": "a"}, **same).status_code == 200


def test_the_page_may_load_its_own_files_only(client: Client) -> None:
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/app.css", "text/css")):
        answer = client.send("GET", path)
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'; script-src 'self';" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text
        assert "https://" not in answer.text
    assert client.send("GET", "/../cli/main.py").status_code == 404
    assert client.send("GET", "/", host="evil.example").status_code == 403


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["explore", "--model", "en", "--port", port]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["explore", "--model", str(tmp_path / "missing"), "--port", "0"]) == 2
    assert "missing" in capsys.readouterr().err
