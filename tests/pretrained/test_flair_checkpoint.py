"""Language models of Flair: imported without executing anything in them, and exported with the same vectors."""

from __future__ import annotations

import os
import pickle
import struct
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_process import run_python
from helpers import AWKWARD_TEXTS, assert_same_vectors, small_model
from numpy.typing import NDArray

from charembed import CharEmbedder, CharEmbedError
from charembed.cli.main import main
from charembed.pretrained.flair_checkpoint import read_flair
from charembed.pretrained.pickle_reader import StorageStub, TensorStub
from charembed.pretrained.torch_file import TorchFile, read_torch_file

# Flair and its dependencies emit warnings on import and in use.
pytestmark = pytest.mark.filterwarnings("default")

CHARACTERS = "abcdefghijklmnopqrstuvwxyz ABC.,'0123\nİé東"
# Flair drops tokens that are empty, and cannot encode lone surrogates.
# Composed, as an embedder reads decomposed text whose accents the vocabulary lacks; Flair reads it as it is.
SENTENCES = [
    words
    for text in AWKWARD_TEXTS
    if (words := unicodedata.normalize("NFC", text).encode("utf-8", "ignore").decode().split())
]
KINDS = [
    {"recurrent_type": "LSTM"},
    {"recurrent_type": "LSTM", "nlayers": 2, "nout": 7},
    {"recurrent_type": "GRU"},
    {"recurrent_type": "GRU", "nlayers": 2, "nout": 5, "document_delimiter": "\n\n"},
]


def flair_model(*, forward: bool, characters: str = CHARACTERS, add_unk: bool = True, **options):
    """Create a model of Flair with random weights."""
    from flair.data import Dictionary
    from flair.models import LanguageModel

    dictionary = Dictionary(add_unk=add_unk)
    for character in characters:
        dictionary.add_item(character)
    torch.manual_seed(int(forward))
    options = {"hidden_size": 11, "nlayers": 1, "embedding_size": 6, "dropout": 0.3} | options
    return LanguageModel(dictionary, forward, **options).eval()


def flair_vectors(files: tuple[Path, Path], words: list[str], *, with_whitespace: bool) -> NDArray[np.float32]:
    """Return the vectors of `FlairEmbeddings`, forward half first."""
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
def test_vectors_match_flair(options: dict, with_whitespace: bool, tmp_path: Path) -> None:
    files = save_pair(tmp_path, **options)
    embedder = CharEmbedder.from_flair(*files, readout="separator" if with_whitespace else "word")
    for words in SENTENCES:
        expected = flair_vectors(files, words, with_whitespace=with_whitespace)
        assert_same_vectors(embedder.embed([words])[0].vectors, expected, words)


def test_default_readout_matches_the_default_of_flair(pair) -> None:
    words = ["two", "words"]
    expected = flair_vectors(pair, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*pair).embed([words])[0].vectors, expected, words)


def test_dictionaries_may_differ_and_contain_more_than_characters(tmp_path: Path) -> None:
    from flair.models import LanguageModel

    files = tmp_path / "forward.pt", tmp_path / "backward.pt"
    flair_model(forward=True, characters="abc é").save(files[0])
    model = flair_model(forward=False, characters="cbaz ")
    model.dictionary.add_item("<S>")
    sizes = (model.hidden_size, model.nlayers, model.embedding_size)
    LanguageModel(model.dictionary, False, *sizes).save(files[1])
    words = ["cab", "zé", "<S>", "q"]
    expected = flair_vectors(files, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, expected, words)


def test_dictionary_without_unk_maps_unknown_characters_to_its_first(tmp_path: Path) -> None:
    files = save_pair(tmp_path, add_unk=False)
    words = ["cab", "A.B"]
    expected = flair_vectors(files, words, with_whitespace=True)
    embedder = CharEmbedder.from_flair(*files)
    assert_same_vectors(embedder.embed([words])[0].vectors, expected, words)
    unknown, first = embedder.embed([["ꙮ"], ["a"]])
    assert np.array_equal(unknown.vectors, first.vectors)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_all_formats_that_flair_has_written(archive: bool, protocol: int, pair, tmp_path: Path) -> None:
    old = tmp_path / "old_forward.pt", tmp_path / "old_backward.pt"
    for new, file in zip(pair, old, strict=True):
        state = torch.load(new, weights_only=False)
        # The first versions of Flair did not write these.
        del state["recurrent_type"], state["has_decoder"], state["document_delimiter"]
        state["state_dict"]._metadata = None
        torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    words = ["two", "words."]
    expected = CharEmbedder.from_flair(*pair).embed([words])[0].vectors
    assert np.array_equal(CharEmbedder.from_flair(*old).embed([words])[0].vectors, expected)


def test_training_checkpoints(tmp_path: Path) -> None:
    """Read checkpoints of Flair's own trainer, which contain the state of the optimizer."""
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
        expected = flair_vectors(files, words, with_whitespace=True)
        assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, expected, words)


def test_model_without_decoder(tmp_path: Path) -> None:
    files = save_pair(tmp_path, has_decoder=False)
    words = ["two", "words"]
    expected = flair_vectors(files, words, with_whitespace=True)
    assert_same_vectors(CharEmbedder.from_flair(*files).embed([words])[0].vectors, expected, words)


def test_decoders_are_imported(pair) -> None:
    flair_models = [flair_model(forward=True), flair_model(forward=False)]
    pretrained = read_flair(*pair)
    for direction, model in zip(("forward", "backward"), flair_models, strict=True):
        ids = [model.dictionary.get_idx_for_item(character) for character in "cab ab"]
        logits, _, _ = model(torch.tensor(ids)[:, None], model.init_hidden(1))
        ours, _ = pretrained.model.direction(direction)(torch.from_numpy(pretrained.vocab.encode("cab ab")[:, None]))
        columns = [model.dictionary.get_idx_for_item(character) for character in pretrained.vocab.characters]
        assert torch.allclose(ours[:, :, 1:], logits[:, :, columns], atol=1e-5)


def test_import_command_works_without_flair(pair, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["flair"] = None
from charembed.cli.main import main
sys.exit(main(["import-flair", {str(pair[0])!r}, {str(pair[1])!r}, {str(tmp_path / "model")!r}]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "1 layer(s) of lstm, hidden size 11" in done.stdout
    words = ["two", "words"]
    vectors = CharEmbedder.from_pretrained(tmp_path / "model").embed([words])[0].vectors
    assert_same_vectors(vectors, flair_vectors(pair, words, with_whitespace=True), words)
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
def test_exported_models_give_the_same_vectors_in_flair(options: dict, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    pretrained = small_model(**options)
    files = tmp_path / "forward.pt", tmp_path / "backward.pt"
    export_flair(CharEmbedder(pretrained), *files)
    for words in SENTENCES:
        vectors = flair_vectors(files, words, with_whitespace=pretrained.readout == "separator")
        assert_same_vectors(vectors, CharEmbedder(pretrained).embed([words])[0].vectors, words)
    imported = read_flair(*files, pretrained.readout)
    assert imported.vocab == pretrained.vocab
    assert imported.model.config == pretrained.model.config
    for name, weight in pretrained.model.state_dict().items():
        assert torch.equal(imported.model.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cell": "mgu"}, "Flair has no language model of mgu"), ({"cell": "gru"}, "gru with reset_after")],
)
def test_export_of_unsupported_recurrences_raises(options: dict, message: str, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    with pytest.raises(CharEmbedError, match=message):
        export_flair(CharEmbedder(small_model(**options)), tmp_path / "f.pt", tmp_path / "b.pt")
    assert not list(tmp_path.iterdir())


def test_export_writes_both_files_or_none(embedder, tmp_path: Path) -> None:
    from charembed.integrations.flair import export_flair

    first = tmp_path / "forward.pt"
    first.write_text("something")
    with pytest.raises(OSError, match="absent"):
        export_flair(embedder, first, tmp_path / "absent" / "backward.pt")
    with pytest.raises(CharEmbedError, match="two files, got"):
        export_flair(embedder, first, first)
    assert [path.name for path in tmp_path.iterdir()] == ["forward.pt"]
    assert first.read_text() == "something"


def test_export_logs_the_option_for_the_same_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
def test_unknown_classes_are_refused_by_name_and_not_executed(archive: bool, pair, tmp_path: Path) -> None:
    state = torch.load(pair[0], weights_only=False)
    mark = tmp_path / "mark"
    torch.save(state | {"more": Evil(f"touch {mark}")}, pair[0], _use_new_zipfile_serialization=archive)
    with pytest.raises(
        CharEmbedError, match=r"forward.pt: it refers to '(posix|nt)\.system', which is not allowed in it"
    ):
        read_flair(*pair)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "builtins.getattr", "operator.attrgetter", "flair.data.Sentence", "torch.hub.load"]
)
def test_unknown_functions_are_refused(name: str, tmp_path: Path, pair) -> None:
    module, _, function = name.rpartition(".")
    program = f"c{module}\n{function}\n(S'1'\ntR.".encode()  # calls it with '1'
    file = tmp_path / "evil.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(CharEmbedError, match=f"it refers to '{name}'"):
        read_flair(file, pair[1])


def test_torchscript_is_refused(tmp_path: Path, pair) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/version", "3\n")
    with pytest.raises(CharEmbedError, match="TorchScript program"):
        read_flair(tmp_path / "program.pt", pair[1])


def test_pickle_cannot_change_classes_or_refer_to_modules(tmp_path: Path, pair) -> None:
    """`torch.load` writes the "source" of a module that a pickle refers to into a file named after its class."""

    def text(words: str) -> bytes:
        return b"X" + struct.pack("<I", len(words)) + words.encode()

    mark = tmp_path / "written"
    program = b"\x80\x02cflair.data\nDictionary\nq\x00N}("
    program += text("dump_patches") + b"\x88" + text("__name__") + text(str(mark)) + b"u\x86b0"
    program += b"(" + text("module") + b"h\x00" + text("source") + text("a line\n") + b"tQ."
    start = b"".join(pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, 1001, {}))
    (tmp_path / "evil.pt").write_bytes(start + program + pickle.dumps([], 2))
    with pytest.raises(CharEmbedError, match="sets attributes of an object that cannot have any"):
        read_flair(tmp_path / "evil.pt", pair[1])
    reference = b"\x80\x02(" + text("module") + b"cflair.data\nDictionary\n" + text("source") + text("a line") + b"tQ."
    (tmp_path / "evil.pt").write_bytes(start + reference + pickle.dumps([], 2))
    with pytest.raises(CharEmbedError, match="refers to an object that is not a tensor"):
        read_flair(tmp_path / "evil.pt", pair[1])
    assert not list(tmp_path.glob("written*"))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"}K\x01" + 1_000_000 * b"\x85" + b"K\x01s.", "a dict with a key of type tuple"),
        (b"K\x01r\xff\xff\xff\x0f.", "not a language model of Flair"),
        (b"ccollections\nOrderedDict\n)R}X\x03\x00\x00\x00getK\x05sb.", "not a language model of Flair"),
        (b"c\x1b[2J\nx\n.", r"refers to '\\x1b\[2J\.x'"),
        (b"\x8f.", "the instruction EMPTY_SET"),
        (b"K\x01K\x02a.", "not a list"),
        (b"\x8a\xff" + 255 * b"\x7f" + b".", "an integer of more than 80 bits"),
    ],
    ids=["deep keys", "memo", "attributes", "escapes", "set", "append", "large number"],
)
def test_hostile_pickles_are_refused(program: bytes, message: str, tmp_path: Path, pair) -> None:
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    with pytest.raises(CharEmbedError, match=message):
        read_flair(tmp_path / "evil.pt", pair[1])


def test_tensors_have_no_attributes_to_set(pair) -> None:
    """`Tensor.__setstate__` would give it another shape, over memory that does not belong to it."""
    state = torch.load(pair[0], weights_only=False)

    class Changed:
        def __reduce_ex__(self, _: int):
            weight = state["state_dict"]["encoder.weight"]
            return *torch.zeros(1).__reduce_ex__(2)[:2], (weight, 0, (32000, 8000), (0, 0))

    torch.save(state | {"more": Changed()}, pair[0])
    with pytest.raises(CharEmbedError, match="sets attributes of an object that cannot have any"):
        read_flair(*pair)


def test_several_characters_with_the_same_row(pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    state["dictionary"].item2idx |= {b"x": 1, b"y": 1}
    torch.save(state, pair[0])
    with pytest.raises(CharEmbedError, match="several with the same row"):
        read_flair(*pair)


def test_storage_views_in_the_old_format(tmp_path: Path) -> None:
    numbers = struct.pack("<10f", *range(10))
    text = lambda words: b"X" + struct.pack("<I", len(words)) + words.encode()  # noqa: E731
    view = b"(" + text("v") + b"K\x04K\x03t"
    reference = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("k") + text("cpu") + b"K\x0a" + view + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"K\x01K\x02\x85K\x01\x85\x89}tR"
    start = b"".join(pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, 1001, {}))
    content = start + b"\x80\x02" + tensor + b"." + pickle.dumps(["k"], 2) + struct.pack("<q", 10) + numbers
    (tmp_path / "old.pt").write_bytes(content)
    file = read_torch_file(tmp_path / "old.pt")
    assert file.tensor(file.content).tolist() == [5.0, 6.0]
    (tmp_path / "old.pt").write_bytes(content.replace(b"K\x01K\x02\x85", b"K\x02K\x02\x85"))
    file = read_torch_file(tmp_path / "old.pt")
    with pytest.raises(CharEmbedError, match="does not fit into its storage of 3 elements"):
        file.tensor(file.content)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_tensors_match_torch_load(archive: bool, protocol: int, tmp_path: Path) -> None:
    lstm = torch.nn.LSTM(3, 4, num_layers=2)
    whole = torch.arange(24.0).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool)
    tensors = {**lstm.state_dict(), "transposed": whole.t(), "part": whole[1:, 2::2], "same": whole}
    tensors |= {str(kind): whole.to(kind) for kind in kinds} | {"empty": torch.empty(0, 3), "one": torch.tensor(2.0)}
    torch.save(tensors, tmp_path / "file.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=archive)
    file = read_torch_file(tmp_path / "file.pt")
    expected = torch.load(tmp_path / "file.pt", weights_only=False)
    assert file.content.keys() == expected.keys()
    for name, tensor in expected.items():
        assert file.tensor(file.content[name]).dtype == tensor.dtype
        assert torch.equal(file.tensor(file.content[name]), tensor), name


def test_pipes_and_folders_are_refused(tmp_path: Path, pair) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CharEmbedError, match="is not a regular file"):
            read_flair(path, pair[1])


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_larger_than_their_storage_are_refused(archive: bool, pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    state["state_dict"]["encoder.weight"] = torch.zeros(1).as_strided((10**12, 6), (0, 0))
    torch.save(state, pair[0], _use_new_zipfile_serialization=archive)
    with pytest.raises(CharEmbedError, match="does not fit into its storage of 1 elements"):
        read_flair(*pair)


def test_layers_that_share_one_storage_are_refused(pair) -> None:
    """Each layer fits into the storage, but all of them together would take 100 times its memory."""
    state = torch.load(pair[0], weights_only=False)
    weights = state["state_dict"]
    for layer in range(1, 100):
        weights[f"rnn.weight_ih_l{layer}"] = weights["rnn.weight_hh_l0"]
        for name in ("weight_hh", "bias_ih", "bias_hh"):
            weights[f"rnn.{name}_l{layer}"] = weights[f"rnn.{name}_l0"]
    torch.save(state | {"nlayers": 100}, pair[0])
    with pytest.raises(CharEmbedError, match=r"its weights are [\d,]+ numbers, but the file holds [\d,]+"):
        read_flair(*pair)


def test_language_models_of_a_tagger(pair, tmp_path: Path) -> None:
    """Their vectors are those of the models that the tagger was made of."""
    from flair.data import Dictionary
    from flair.embeddings import FlairEmbeddings, StackedEmbeddings
    from flair.models import SequenceTagger

    tags = Dictionary(add_unk=False)
    tags.add_item("O")
    stack = StackedEmbeddings([FlairEmbeddings(str(path)) for path in pair])
    tagger = SequenceTagger(embeddings=stack, tag_dictionary=tags, tag_type="ner", hidden_size=2)
    tagger.save(tmp_path / "ner.pt")
    imported = CharEmbedder.from_flair(tmp_path / "ner.pt", tmp_path / "ner.pt")
    expected = CharEmbedder.from_flair(*pair).embed(["The dog."])[0]
    assert_same_vectors(imported.embed(["The dog."])[0].vectors, expected.vectors, expected.words)

    tagger = SequenceTagger(embeddings=stack.embeddings[0], tag_dictionary=tags, tag_type="ner", hidden_size=2)
    tagger.save(tmp_path / "forward.pt")
    with pytest.raises(CharEmbedError, match="it is a tagger of Flair with no backward language models, expected one"):
        CharEmbedder.from_flair(tmp_path / "forward.pt", tmp_path / "forward.pt")


def test_empty_tensors_with_absurd_sizes_are_refused() -> None:
    """No storage limits the sizes of a tensor without elements, but PyTorch cannot compute with these."""
    stub = TensorStub(StorageStub("0", 0, 4), 0, (0, 2**70), (1, 1))
    file = TorchFile(stub, {"0": torch.zeros(4)})
    with pytest.raises(CharEmbedError, match="does not fit into its storage of 4 elements"):
        file.tensor(stub)
    assert file.tensor(stub._replace(size=(0, 5))).shape == (0, 5)


def test_storages_larger_than_the_file_are_refused(pair) -> None:
    state = torch.load(pair[0], weights_only=False)
    torch.save(state, pair[0], _use_new_zipfile_serialization=False, pickle_protocol=2)
    content = pair[0].read_bytes()
    count = pickle.dumps(44 * 11, 2)[2:-1]
    pair[0].write_bytes(content.replace(count, b"J" + struct.pack("<i", 2**31 - 1)))
    with pytest.raises(CharEmbedError, match="does not have as many elements as its tensors say"):
        read_flair(*pair)


def test_compressed_archives_are_refused(pair) -> None:
    with zipfile.ZipFile(pair[0]) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(pair[0], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(CharEmbedError, match="is compressed"):
        read_flair(*pair)


def test_files_with_other_types_than_float32(pair) -> None:
    expected = CharEmbedder.from_flair(*pair).embed([["two", "words"]])[0].vectors
    for archive in (True, False):
        for file in pair:
            state = torch.load(file, weights_only=False)
            state["state_dict"] = {name: weight.bfloat16() for name, weight in state["state_dict"].items()}
            torch.save(
                state | {"more": [torch.ones(2, dtype=t) for t in (torch.bool, torch.int64, torch.float64)]},
                file,
                _use_new_zipfile_serialization=archive,
            )
        vectors = CharEmbedder.from_flair(*pair).embed([["two", "words"]])[0].vectors
        assert 0 < np.abs(vectors - expected).max() < 0.02


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
        ({"is_forward_lm": False}, "is a backward model, expected the forward model"),
        ({"dictionary": "absent"}, "is not a language model of Flair: it lacks dictionary"),
        ({"recurrent_type": "SRU"}, "recurrent_type must be LSTM or GRU, got 'SRU'"),
        ({"hidden_size": 12}, r"rnn.weight_ih_l0 has shape \(44, 6\), expected \(48, 6\)"),
        ({"hidden_size": 10**9}, "hidden_size must be a whole number from 1 to 65536"),
        ({"nlayers": 10**9}, "num_layers must be a whole number from 1 to 100"),
        ({"nout": 10**9}, "proj_size must be a whole number from 1 to 65536"),
        ({"dropout": "much"}, "dropout must be a number, got 'much'"),
        ({"is_forward_lm": "False"}, "is_forward_lm must be True or False"),
        ({"document_delimiter": "\t"}, r"do not belong together: '\\t' and '\\n'"),
        ({"document_delimiter": ""}, "document_delimiter must be a non-empty string"),
        ({"hidden_size": -1}, "hidden_size must be a whole number from 1 to 65536, got -1"),
        ({"embedding_size": "six"}, "embedding_size must be a number, got 'six'"),
        ({"state_dict": {}}, "encoder.weight has 0 rows"),
        ({"state_dict": [1]}, "state_dict is not a dict of weights"),
        ({"state_dict": {1: 2}}, "state_dict is not a dict of weights"),
        ({"state_dict": {"encoder.weight": 2}}, "it has int where a tensor is expected"),
        ({"dictionary": {"a": 1}}, "dictionary is not a flair.data.Dictionary"),
    ],
    ids=str,
)
def test_invalid_checkpoints_raise(changes: dict, message: str, pair) -> None:
    _changed(pair, **changes)
    with pytest.raises(CharEmbedError, match=message):
        read_flair(*pair)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("encoder.weight", torch.zeros(3, 6), "encoder.weight has 3 rows, too few for the dictionary"),
        ("rnn.weight_hh_l0", torch.zeros(44, 12), "shape"),
        ("rnn.weight_ih_l0", torch.zeros(45, 6), "shape"),
        ("rnn.weight_hh_l0", torch.full((44, 11), torch.nan), "NaN, infinite"),
        ("proj.weight", torch.zeros(5, 11), "has unknown weights 'proj.weight'"),
        ("rnn.weight_ih_l1", torch.zeros(44, 11), "weight_ih_l1"),
    ],
    ids=lambda value: value if isinstance(value, str) else tuple(value.shape).__str__(),
)
def test_invalid_weights_raise(name: str, tensor: torch.Tensor, message: str, pair) -> None:
    weights = torch.load(pair[0], weights_only=False)["state_dict"]
    _changed(pair, state_dict=weights | {name: tensor})
    with pytest.raises(CharEmbedError, match=message):
        read_flair(*pair)


def test_models_of_different_sizes_raise(pair) -> None:
    flair_model(forward=False, hidden_size=12).save(pair[1])
    with pytest.raises(CharEmbedError, match="do not belong together: CharLMConfig"):
        read_flair(*pair)


@pytest.mark.parametrize("content", [b"", b"just some text", b"PK\x03\x04 and no archive", b"\x80\x04N."])
def test_files_of_other_formats_raise(content: bytes, tmp_path: Path, pair) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CharEmbedError, match="file"):
        read_flair(tmp_path / "file", pair[1])


def test_missing_file(tmp_path: Path, pair, capsys) -> None:
    assert main(["import-flair", str(tmp_path / "absent.pt"), str(pair[1]), str(tmp_path / "model")]) == 2
    assert "absent.pt" in capsys.readouterr().err
