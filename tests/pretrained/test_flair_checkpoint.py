"""Flair's language models: read without running anything in them, and written so that Flair has the same vectors."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import AWKWARD_TEXTS, assert_same_vectors, small_model
from numpy.typing import NDArray

from charembed import CharEmbedder, CharEmbedError
from charembed.cli.main import main
from charembed.pretrained.flair_checkpoint import read_flair
from charembed.pretrained.torch_file import read_torch_file

# Flair and what it imports warn of their own affairs on import and in use.
pytestmark = pytest.mark.filterwarnings("default")

CHARACTERS = "abcdefghijklmnopqrstuvwxyz ABC.,'0123\nİé東"
# Flair drops tokens that are empty, and cannot encode lone surrogates.
SENTENCES = [words for text in AWKWARD_TEXTS if (words := text.encode("utf-8", "ignore").decode().split())]
KINDS = [
    {"recurrent_type": "LSTM"},
    {"recurrent_type": "LSTM", "nlayers": 2, "nout": 7},
    {"recurrent_type": "GRU"},
    {"recurrent_type": "GRU", "nlayers": 2, "nout": 5, "document_delimiter": "\n\n"},
]


def flair_model(*, forward: bool, characters: str = CHARACTERS, add_unk: bool = True, **options):
    """A model of Flair's with random weights that are its own."""
    from flair.data import Dictionary
    from flair.models import LanguageModel

    dictionary = Dictionary(add_unk=add_unk)
    for character in characters:
        dictionary.add_item(character)
    torch.manual_seed(int(forward))
    options = {"hidden_size": 11, "nlayers": 1, "embedding_size": 6, "dropout": 0.3} | options
    return LanguageModel(dictionary, forward, **options).eval()


def flair_vectors(files: tuple[Path, Path], words: list[str], *, with_whitespace: bool) -> NDArray[np.float32]:
    """What `FlairEmbeddings` gives for the words, forward half first."""
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings

    halves = []
    for file in files:
        sentence = Sentence(words)
        embeddings = FlairEmbeddings(str(file), with_whitespace=with_whitespace)
        embeddings.embed(sentence)
        halves.append(np.stack([token.get_embedding([embeddings.name]).cpu().numpy() for token in sentence]))
    return np.concatenate(halves, axis=1)


def save_pair(folder: Path, **options) -> tuple[Path, Path]:
    files = folder / "forward.pt", folder / "backward.pt"
    for file in files:
        flair_model(forward=file.stem == "forward", **options).save(file)
    return files


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return save_pair(tmp_path)


@pytest.mark.parametrize("with_whitespace", [True, False])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_vectors_are_flair_s(options: dict, with_whitespace: bool, tmp_path: Path) -> None:
    files = save_pair(tmp_path, **options)
    embedder = CharEmbedder.from_flair(*files, readout="separator" if with_whitespace else "word")
    for words in SENTENCES:
        wanted = flair_vectors(files, words, with_whitespace=with_whitespace)
        assert_same_vectors(embedder.embed([words])[0].vectors, wanted, words)


def test_separator_is_the_default_as_with_whitespace_is_flair_s(pair) -> None:
    words = ["two", "words"]
    wanted = flair_vectors(pair, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*pair).embed([words])[0].vectors, wanted, words)


def test_dictionaries_may_differ_and_hold_more_than_characters(tmp_path: Path) -> None:
    from flair.models import LanguageModel

    files = tmp_path / "forward.pt", tmp_path / "backward.pt"
    flair_model(forward=True, characters="abc é").save(files[0])
    model = flair_model(forward=False, characters="cbaz ")
    model.dictionary.add_item("<S>")
    sizes = (model.hidden_size, model.nlayers, model.embedding_size)
    LanguageModel(model.dictionary, False, *sizes).save(files[1])
    words = ["cab", "zé", "<S>", "q"]
    wanted = flair_vectors(files, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, wanted, words)


def test_a_dictionary_without_unknown_reads_unknown_characters_as_its_first(tmp_path: Path) -> None:
    files = save_pair(tmp_path, add_unk=False)
    words = ["cab", "A.B"]
    wanted = flair_vectors(files, words, with_whitespace=True)
    embedder = CharEmbedder.from_flair(*files)
    assert_same_vectors(embedder.embed([words])[0].vectors, wanted, words)
    unknown, first = embedder.embed([["ꙮ"], ["a"]])
    assert np.array_equal(unknown.vectors, first.vectors)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_every_form_in_which_flair_has_saved_them(archive: bool, protocol: int, pair, tmp_path: Path) -> None:
    old = tmp_path / "old_forward.pt", tmp_path / "old_backward.pt"
    for new, file in zip(pair, old, strict=True):
        state = torch.load(new, weights_only=False)
        del state["recurrent_type"], state["has_decoder"], state["document_delimiter"]  # as in the first versions
        state["state_dict"]._metadata = None
        torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    words = ["two", "words."]
    wanted = CharEmbedder.from_flair(*pair).embed([words])[0].vectors
    assert np.array_equal(CharEmbedder.from_flair(*old).embed([words])[0].vectors, wanted)


def test_checkpoints_of_a_training(tmp_path: Path) -> None:
    """As Flair's own trainer writes them, with the optimiser's state."""
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

    (tmp_path / "corpus" / "train").mkdir(parents=True)
    for name in ("train/split_1", "valid.txt", "test.txt"):
        (tmp_path / "corpus" / name).write_text("abc cab bca aaa. " * 100)
    for forward in (True, False):
        model = flair_model(forward=forward)
        corpus = TextCorpus(tmp_path / "corpus", model.dictionary, forward, character_level=True)
        trainer = LanguageModelTrainer(model, corpus)
        folder = tmp_path / str(forward)
        trainer.train(folder, sequence_length=10, mini_batch_size=4, max_epochs=1, checkpoint=True)
        assert (folder / "checkpoint.pt").exists()
        assert (folder / "best-lm.pt").exists()
    for name in ("checkpoint.pt", "best-lm.pt"):
        files = tmp_path / "True" / name, tmp_path / "False" / name
        words = ["abc", "cab."]
        wanted = flair_vectors(files, words, with_whitespace=True)
        assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, wanted, words)


def test_a_model_without_decoder_embeds_all_the_same(tmp_path: Path) -> None:
    files = save_pair(tmp_path, has_decoder=False)
    words = ["two", "words"]
    wanted = flair_vectors(files, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, wanted, words)


def test_decoders_come_along(pair) -> None:
    theirs = [flair_model(forward=True), flair_model(forward=False)]
    read = read_flair(*pair)
    for direction, model in zip(("forward", "backward"), theirs, strict=True):
        ids = [model.dictionary.get_idx_for_item(character) for character in "cab ab"]
        logits, _, _ = model(torch.tensor(ids)[:, None], model.init_hidden(1))
        ours, _ = read.model.direction(direction)(torch.from_numpy(read.vocab.encode("cab ab")[:, None]))
        columns = [model.dictionary.get_idx_for_item(character) for character in read.vocab.characters]
        assert torch.allclose(ours[:, :, 1:], logits[:, :, columns], atol=1e-5)


def test_the_command_writes_a_model_folder_without_flair(pair, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["flair"] = None
from charembed.cli.main import main
sys.exit(main(["import-flair", {str(pair[0])!r}, {str(pair[1])!r}, {str(tmp_path / "model")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 layer(s) of lstm, hidden size 11" in done.stdout
    words = ["two", "words"]
    found = CharEmbedder.from_pretrained(tmp_path / "model").embed([words])[0].vectors
    assert_same_vectors(found, flair_vectors(pair, words, with_whitespace=True), words)
    assert "forward.pt" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm"},
        {"cell": "lstm", "num_layers": 2, "proj_size": 5, "readout": "separator"},
        {"cell": "gru", "reset_after": True, "readout": "separator", "delimiter": "\n\n"},
    ],
    ids=str,
)
def test_exported_models_embed_identically_in_flair(options: dict, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    pretrained = small_model(**options)
    files = tmp_path / "forward.pt", tmp_path / "backward.pt"
    export_flair(CharEmbedder(pretrained), *files)
    for words in SENTENCES:
        found = flair_vectors(files, words, with_whitespace=pretrained.readout == "separator")
        assert_same_vectors(found, CharEmbedder(pretrained).embed([words])[0].vectors, words)
    again = read_flair(*files, pretrained.readout)
    assert again.vocab == pretrained.vocab
    assert again.model.config == pretrained.model.config
    for name, weight in pretrained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cell": "mgu"}, "Flair has no language model of mgu"), ({"cell": "gru"}, "gru with reset_after")],
)
def test_recurrences_that_flair_has_not(options: dict, message: str, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    with pytest.raises(CharEmbedError, match=message):
        export_flair(CharEmbedder(small_model(**options)), tmp_path / "f.pt", tmp_path / "b.pt")
    assert not list(tmp_path.iterdir())


def test_exporting_writes_both_files_or_none(embedder, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    first = tmp_path / "forward.pt"
    first.write_text("something")
    with pytest.raises(OSError, match="absent"):
        export_flair(embedder, first, tmp_path / "absent" / "backward.pt")
    with pytest.raises(CharEmbedError, match="two files, got"):
        export_flair(embedder, first, first)
    assert [path.name for path in tmp_path.iterdir()] == ["forward.pt"]
    assert first.read_text() == "something"


def test_exporting_says_how_flair_gives_the_same_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from charembed.integrations.flair import export_flair

    for readout, warned in (("word", 1), ("separator", 0)):
        caplog.clear()
        export_flair(CharEmbedder(small_model(readout=readout)), tmp_path / "f.pt", tmp_path / "b.pt")
        assert caplog.text.count("with_whitespace=False") == warned


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_foreign_is_refused_by_name_and_not_run(archive: bool, pair, tmp_path: Path) -> None:
    state = torch.load(pair[0], weights_only=False)
    mark = tmp_path / "mark"
    torch.save(state | {"more": Evil(f"touch {mark}")}, pair[0], _use_new_zipfile_serialization=archive)
    with pytest.raises(CharEmbedError, match=r"forward.pt: it holds '(posix|nt)\.system', which has no place in it"):
        read_flair(*pair)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "operator.attrgetter", "flair.data.Sentence", "torch.hub.load"]
)
def test_names_beside_those_of_a_checkpoint(name: str, tmp_path: Path, pair) -> None:
    module, _, function = name.rpartition(".")
    program = f"c{module}\n{function}\n(S'1'\ntR.".encode()  # calls it with '1'
    file = tmp_path / "evil.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(CharEmbedError, match=f"it holds '{name}'"):
        read_flair(file, pair[1])


def test_torchscript_is_refused(tmp_path: Path, pair) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(CharEmbedError, match="TorchScript program"):
        read_flair(tmp_path / "program.pt", pair[1])


def test_a_pickle_may_not_change_what_it_names_and_refers_to_tensors_alone(tmp_path: Path, pair) -> None:
    """`torch.load` writes the "source" that comes with a reference to a module into a file named by its class."""

    def text(words: str) -> bytes:
        return b"X" + struct.pack("<I", len(words)) + words.encode()

    mark = tmp_path / "written"
    program = b"\x80\x02cflair.data\nDictionary\nq\x00N}("
    program += text("dump_patches") + b"\x88" + text("__name__") + text(str(mark)) + b"u\x86b0"
    program += b"(" + text("module") + b"h\x00" + text("source") + text("a line\n") + b"tQ."
    start = b"".join(pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, 1001, {}))
    (tmp_path / "evil.pt").write_bytes(start + program + pickle.dumps([], 2))
    with pytest.raises(CharEmbedError, match="sets attributes of something that has none"):
        read_flair(tmp_path / "evil.pt", pair[1])
    reference = b"\x80\x02(" + text("module") + b"cflair.data\nDictionary\n" + text("source") + text("a line") + b"tQ."
    (tmp_path / "evil.pt").write_bytes(start + reference + pickle.dumps([], 2))
    with pytest.raises(CharEmbedError, match="refers to something that is no tensor"):
        read_flair(tmp_path / "evil.pt", pair[1])
    assert not list(tmp_path.glob("written*"))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"}K\x01" + 1_000_000 * b"\x85" + b"K\x01s.", "a table with tuple for keys"),
        (b"K\x01r\xff\xff\xff\x0f.", "no language model of Flair"),
        (b"ccollections\nOrderedDict\n)R}X\x03\x00\x00\x00getK\x05sb.", "no language model of Flair"),
        (b"c\x1b[2J\nx\n.", r"holds '\\x1b\[2J\.x'"),
        (b"\x8f.", "the instruction EMPTY_SET"),
        (b"K\x01K\x02a.", "no list"),
        (b"\x8a\xff" + 255 * b"\x7f" + b".", "a number that is too large"),
    ],
    ids=["deep keys", "memo", "attributes", "escapes", "set", "append", "large number"],
)
def test_pickles_that_would_harm_an_unpickler(program: bytes, message: str, tmp_path: Path, pair) -> None:
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    with pytest.raises(CharEmbedError, match=message):
        read_flair(tmp_path / "evil.pt", pair[1])


def test_a_tensor_has_no_attributes_to_set(pair) -> None:
    """`Tensor.__setstate__` would give it another shape, over memory that is not its own."""
    state = torch.load(pair[0], weights_only=False)

    class Changed:
        def __reduce_ex__(self, _: int):
            weight = state["state_dict"]["encoder.weight"]
            return *torch.zeros(1).__reduce_ex__(2)[:2], (weight, 0, (32000, 8000), (0, 0))

    torch.save(state | {"more": Changed()}, pair[0])
    with pytest.raises(CharEmbedError, match="sets attributes of something that has none"):
        read_flair(*pair)


def test_several_characters_of_one_row(pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    state["dictionary"].item2idx |= {b"x": 1, b"y": 1}
    torch.save(state, pair[0])
    with pytest.raises(CharEmbedError, match="several of one row"):
        read_flair(*pair)


def test_views_of_storages_in_old_files(tmp_path: Path) -> None:
    numbers = struct.pack("<10f", *range(10))
    text = lambda words: b"X" + struct.pack("<I", len(words)) + words.encode()  # noqa: E731
    view = b"(" + text("v") + b"K\x04K\x03t"
    reference = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("k") + text("cpu") + b"K\x0a" + view + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"K\x01K\x02\x85K\x01\x85\x89}tR"
    start = b"".join(pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, 1001, {}))
    content = start + b"\x80\x02" + tensor + b"." + pickle.dumps(["k"], 2) + struct.pack("<q", 10) + numbers
    (tmp_path / "old.pt").write_bytes(content)
    read = read_torch_file(tmp_path / "old.pt")
    assert read.tensor(read.saved).tolist() == [5.0, 6.0]
    (tmp_path / "old.pt").write_bytes(content.replace(b"K\x01K\x02\x85", b"K\x02K\x02\x85"))
    read = read_torch_file(tmp_path / "old.pt")
    with pytest.raises(CharEmbedError, match="has not the 3 numbers"):
        read.tensor(read.saved)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_tensors_of_all_forms_are_those_of_torch_load(archive: bool, protocol: int, tmp_path: Path) -> None:
    lstm = torch.nn.LSTM(3, 4, num_layers=2)
    whole = torch.arange(24.0).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)
    tensors = {**lstm.state_dict(), "transposed": whole.t(), "part": whole[1:, 2::2], "same": whole}
    tensors |= {str(kind): whole.to(kind) for kind in kinds} | {"empty": torch.empty(0, 3), "one": torch.tensor(2.0)}
    torch.save(tensors, tmp_path / "file.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    read = read_torch_file(tmp_path / "file.pt")
    wanted = torch.load(tmp_path / "file.pt", weights_only=False)
    assert read.saved.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert read.tensor(read.saved[name]).dtype == tensor.dtype
        assert torch.equal(read.tensor(read.saved[name]), tensor), name


def test_what_is_no_file(tmp_path: Path, pair) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CharEmbedError, match="is no file"):
            read_flair(path, pair[1])


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_that_claim_more_numbers_than_they_have(archive: bool, pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    state["state_dict"]["encoder.weight"] = torch.zeros(1).as_strided((10**12, 6), (0, 0))
    torch.save(state, pair[0], _use_new_zipfile_serialization=archive)
    with pytest.raises(CharEmbedError, match="has not the 1 numbers that it says"):
        read_flair(*pair)


def test_storages_that_claim_more_numbers_than_the_file_has(pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    torch.save(state, pair[0], _use_new_zipfile_serialization=False, pickle_protocol=2)
    content = pair[0].read_bytes()
    count = pickle.dumps(44 * 11, 2)[2:-1]
    pair[0].write_bytes(content.replace(count, b"J" + struct.pack("<i", 2**31 - 1)))
    with pytest.raises(CharEmbedError, match="are not as many as it says"):
        read_flair(*pair)


def test_packed_archives_are_no_files_of_pytorch_s(pair) -> None:
    with zipfile.ZipFile(pair[0]) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(pair[0], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(CharEmbedError, match="is packed"):
        read_flair(*pair)


def test_files_of_other_tensors_than_float32(pair) -> None:
    wanted = CharEmbedder.from_flair(*pair).embed([["two", "words"]])[0].vectors
    for archive in (True, False):
        for file in pair:
            state = torch.load(file, weights_only=False)
            state["state_dict"] = {name: weight.bfloat16() for name, weight in state["state_dict"].items()}
            torch.save(
                state | {"more": [torch.ones(2, dtype=t) for t in (torch.bool, torch.int64, torch.float64)]},
                file,
                _use_new_zipfile_serialization=archive,
            )
        found = CharEmbedder.from_flair(*pair).embed([["two", "words"]])[0].vectors
        assert 0 < np.abs(found - wanted).max() < 0.02


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_truncated_files(archive: bool, share: float, pair, tmp_path: Path, capsys) -> None:
    state = torch.load(pair[0], weights_only=False)
    torch.save(state, pair[0], _use_new_zipfile_serialization=archive)
    content = pair[0].read_bytes()
    pair[0].write_bytes(content[: int(share * len(content))])
    assert main(["import-flair", str(pair[0]), str(pair[1]), str(tmp_path / "model")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("charembed: error: ")
    assert "forward.pt" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "model").exists()


def _changed(pair: tuple[Path, Path], **changes: object) -> None:
    state = torch.load(pair[0], weights_only=False)
    torch.save({name: value for name, value in (state | changes).items() if value != "absent"}, pair[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_forward_lm": False}, "is a backward model, expected the forward one"),
        ({"dictionary": "absent"}, "is no language model of Flair: it has no dictionary"),
        ({"recurrent_type": "SRU"}, "the recurrence 'SRU' is not known"),
        ({"hidden_size": 12}, r"rnn.weight_ih_l0 has shape \(44, 6\), expected \(48, 6\)"),
        ({"hidden_size": 10**9}, "rnn.weight_ih_l0 has shape"),
        ({"nlayers": 10**9}, "lacks weights 'rnn.bias_hh_l1'"),
        ({"nout": 10**9}, "lacks weights 'proj.bias'"),
        ({"dropout": "much"}, "dropout must be a number, got 'much'"),
        ({"is_forward_lm": "False"}, "is_forward_lm must be true or false"),
        ({"document_delimiter": "\t"}, r"no pair: '\\t' and '\\n'"),
        ({"document_delimiter": ""}, "document_delimiter must be text"),
        ({"hidden_size": -1}, "hidden_size must be positive"),
        ({"embedding_size": "six"}, "embedding_size must be a number, got 'six'"),
        ({"state_dict": {}}, "encoder.weight has 0 rows"),
        ({"state_dict": [1]}, "state_dict is no table of weights"),
        ({"state_dict": {1: 2}}, "state_dict is no table of weights"),
        ({"state_dict": {"encoder.weight": 2}}, "it holds int where a tensor belongs"),
        ({"dictionary": {"a": 1}}, "dictionary is no flair.data.Dictionary"),
    ],
    ids=str,
)
def test_checkpoints_that_do_not_fit(changes: dict, message: str, pair) -> None:
    _changed(pair, **changes)
    with pytest.raises(CharEmbedError, match=message):
        read_flair(*pair)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("encoder.weight", torch.zeros(3, 6), "encoder.weight has 3 rows, too few for the dictionary"),
        ("rnn.weight_hh_l0", torch.zeros(44, 12), "shape"),
        ("rnn.weight_ih_l0", torch.zeros(45, 6), "shape"),
        ("rnn.weight_hh_l0", torch.full((44, 11), torch.nan), "no finite numbers"),
        ("proj.weight", torch.zeros(5, 11), "has the foreign weights 'proj.weight'"),
        ("rnn.weight_ih_l1", torch.zeros(44, 11), "weight_ih_l1"),
    ],
    ids=lambda value: value if isinstance(value, str) else tuple(value.shape).__str__(),
)
def test_weights_that_do_not_fit(name: str, tensor: torch.Tensor, message: str, pair) -> None:
    weights = torch.load(pair[0], weights_only=False)["state_dict"]
    _changed(pair, state_dict=weights | {name: tensor})
    with pytest.raises(CharEmbedError, match=message):
        read_flair(*pair)


def test_models_of_different_sizes_are_no_pair(pair) -> None:
    flair_model(forward=False, hidden_size=12).save(pair[1])
    with pytest.raises(CharEmbedError, match="no pair: CharLMConfig"):
        read_flair(*pair)


@pytest.mark.parametrize("content", [b"", b"just some text", b"PK\x03\x04 and no archive", b"\x80\x04N."])
def test_other_files(content: bytes, tmp_path: Path, pair) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CharEmbedError, match="file"):
        read_flair(tmp_path / "file", pair[1])


def test_a_file_that_is_not_there(tmp_path: Path, pair, capsys) -> None:
    assert main(["import-flair", str(tmp_path / "absent.pt"), str(pair[1]), str(tmp_path / "model")]) == 2
    assert "absent.pt" in capsys.readouterr().err
