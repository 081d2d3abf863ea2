"""Files of Keras: what Keras writes is read, what is written Keras reads, and files that harm."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import seqcore as sc
from keras_here import keras_here
from seqcore.interchange.keras import from_keras, to_keras
from seqcore.interchange.keras.file import read_keras, write_keras

keras = keras_here()
L = keras.layers

FEATURES = 3
D = {"dtype": "float64"}
SEQUENCES = {"return_sequences": True, **D}


def filled(*layers: Any) -> Any:
    model = keras.Sequential([keras.Input((None, FEATURES), dtype="float64"), *layers])
    rng = np.random.default_rng(0)
    model.set_weights([rng.standard_normal(value.shape) for value in model.get_weights()])
    return model


def every_kind() -> Any:
    return filled(
        L.Masking(**D),
        L.LSTM(4, go_backwards=True, dropout=0.1, **SEQUENCES),
        L.Bidirectional(L.GRU(4, **SEQUENCES), merge_mode="ave", **D),
        L.Dropout(0.5, **D),
        L.Bidirectional(
            L.LSTM(3, name="mine", **SEQUENCES),
            backward_layer=L.LSTM(3, name="other", go_backwards=True, **SEQUENCES),
            **D,
        ),
        L.RNN(L.StackedRNNCells([L.LSTMCell(6, **D), L.LSTMCell(6, **D)], **D), **SEQUENCES),
        L.LSTM(4, **D),
    )


def assert_same(found: Any, expected: Any) -> None:
    (layer, weights), (other, values) = found, expected
    assert layer == other
    assert weights.keys() == values.keys()
    for name, value in values.items():
        assert weights[name].dtype == value.dtype
        assert weights[name].tobytes() == value.tobytes()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        # Keras's own, of NumPy's newer protocol.
        warnings.simplefilter("ignore", DeprecationWarning)
        return saved(tmp_path_factory.mktemp("models"))


def saved(folder: Path) -> Path:
    model = every_kind()
    model.compile("adam", "mse")
    x = np.zeros((2, 3, FEATURES))
    model.train_on_batch(x, np.zeros((2, 4)))
    model.save(folder / "whole.keras")
    model.save(folder / "whole.h5")
    head = filled(*model.layers, L.Dense(2, name="head", **D))
    head.save(folder / "head.keras")
    head.save(folder / "head.h5")
    head.save_weights(folder / "head.weights.h5")
    given = keras.Input((None, FEATURES), dtype="float64")
    keras.Model(given, L.GRU(4, **D)(L.Masking(**D)(given))).save(folder / "functional.keras")
    filled(L.LSTM(4, **SEQUENCES), L.LSTM(2, **SEQUENCES)).save_weights(folder / "a.weights.h5")
    filled(*(L.Bidirectional(L.GRU(2, **SEQUENCES), **D) for _ in range(2))).save_weights(
        folder / "b.weights.h5"
    )
    return folder


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", ["whole.keras", "whole.h5", "functional.keras"])
def test_whole_models_that_keras_saved(name: str, models: Path) -> None:
    model = keras.saving.load_model(models / name, compile=False)
    assert_same(from_keras(read_keras(models / name)), from_keras(model))


@pytest.mark.parametrize("name", ["head.keras", "head.h5"])
def test_one_layer_of_a_model_with_a_head(name: str, models: Path) -> None:
    with pytest.raises(sc.ConversionError, match="layer 'head': Dense is no recurrent layer"):
        from_keras(read_keras(models / name))
    model = keras.saving.load_model(models / name, compile=False)
    for layer in model.layers:
        if isinstance(layer, L.RNN | L.Bidirectional):
            assert_same(from_keras(read_keras(models / name), name=layer.name), from_keras(layer))


def test_files_of_weights_alone(models: Path) -> None:
    stack = filled(L.LSTM(4, **SEQUENCES), L.LSTM(2, **SEQUENCES))
    stack.load_weights(models / "a.weights.h5")
    assert_same(from_keras(read_keras(models / "a.weights.h5")), from_keras(stack))
    both = filled(*(L.Bidirectional(L.GRU(2, **SEQUENCES), **D) for _ in range(2)))
    both.load_weights(models / "b.weights.h5")
    assert_same(from_keras(read_keras(models / "b.weights.h5")), from_keras(both))
    with pytest.raises(sc.ConversionError, match=r"holds layers/dense/vars/0.*beside the weights"):
        from_keras(read_keras(models / "head.weights.h5"))
    layer, _ = from_keras(read_keras(models / "head.weights.h5"), name="bidirectional")
    assert layer == sc.Bidirectional(sc.GRU(4, return_sequences=True))


CARRY: Any = {"return_sequences": True, "mask_output": "carry"}
BOTH: Any = {"return_sequences": True}

WRITTEN = {
    "rnn": sc.SimpleRNN(4, activation="relu", mask_output="carry", return_state=True),
    "gru": sc.GRU(4, reset_after=False, use_bias=False, go_backwards=True, return_sequences=True),
    "both": sc.Bidirectional(sc.LSTM(4, **BOTH), "none", sc.GRU(2, **BOTH)),
    "stack": sc.Stack(
        (
            sc.LSTM(4, recurrent_activation="hard_sigmoid", **CARRY),
            sc.Bidirectional(sc.GRU(4, **BOTH), "sum"),
            sc.Bidirectional(sc.GRU(4, **BOTH)),
            sc.LSTM(2, mask_output="carry"),
        )
    ),
}


def some_weights(layer: Any, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(1)
    kind = layer.init(1, dtype=dtype)
    return {
        name: rng.standard_normal(shape).astype(next(iter(kind.values())).dtype)
        for name, shape in layer.weight_shapes(FEATURES).items()
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_keras_reads_what_is_written(name: str, tmp_path: Path) -> None:
    layer = WRITTEN[name]
    weights = some_weights(layer)
    values = to_keras(layer, weights)
    write_keras(tmp_path / "model.keras", layer, values)
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(from_keras(model), (layer, weights))
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    write_keras(tmp_path / "model.weights.h5", layer, values)
    model.load_weights(tmp_path / "model.weights.h5")
    assert_same(from_keras(model), (layer, weights))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_there_and_back(dtype: str, tmp_path: Path) -> None:
    layer = WRITTEN["stack"]
    weights = some_weights(layer, dtype)
    for name in ("a.keras", "a.weights.h5", "again.keras"):
        write_keras(tmp_path / name, layer, to_keras(layer, weights))
    assert_same(from_keras(read_keras(tmp_path / "a.keras")), (layer, weights))
    found = from_keras(read_keras(tmp_path / "a.weights.h5"), layer=layer)
    assert_same(found, (layer, weights))
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "again.keras").read_bytes()


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    layer = sc.LSTM(4)
    values = to_keras(layer, layer.init(3))
    for name in ("model.h5", "model", "model.keras.zip"):
        with pytest.raises(sc.FileError, match=r"expected a file \.keras or \.weights\.h5"):
            write_keras(tmp_path / name, layer, values)
    with pytest.raises(sc.FileError, match="cannot be written"):
        write_keras(tmp_path / "no" / "folder.keras", layer, values)
    stack = sc.Stack([layer], return_state=True)
    write_keras(tmp_path / "one.keras", stack, to_keras(stack, stack.init(3)))
    (tmp_path / "one.keras").unlink()
    stack = sc.Stack([sc.LSTM(4, return_sequences=True), layer], return_state=True)
    with pytest.raises(sc.ConversionError, match="every member's state"):
        write_keras(tmp_path / "model.keras", stack, to_keras(stack, stack.init(3)))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_absent(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.keras", tmp_path):
        with pytest.raises(sc.FileError, match="cannot be read"):
            read_keras(path)
    with pytest.raises(sc.FileError, match="expected the path of a file"):
        read_keras(3)  # type: ignore[arg-type]


@pytest.fixture
def layer_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(suffix: str) -> Path:
        path = tmp_path / f"hostile{suffix}"
        write_keras(path, sc.LSTM(4), to_keras(sc.LSTM(4), sc.LSTM(4).init(FEATURES)))
        return path

    return write


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_file_truncated_anywhere(suffix: str, layer_file: Callable[[str], Path]) -> None:
    path = layer_file(suffix)
    content = path.read_bytes()
    for size in [0, 1, 3, 4, 8, 100, *range(200, len(content) - 1, len(content) // 25)]:
        path.write_bytes(content[:size])
        with pytest.raises(sc.FileError, match="hostile"):
            read_keras(path)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_damaged_files_are_an_error_or_read(suffix: str, layer_file: Callable[[str], Path]) -> None:
    path = layer_file(suffix)
    content = path.read_bytes()
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            from_keras(read_keras(path))
        except (sc.FileError, sc.ConversionError):
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(100), b"\x80\x04cos\nsystem\n",
     b"\xff" * 64, b"{}"],
    ids=lambda content: repr(content[:8]),
)  # fmt: skip
def test_files_of_other_kinds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.keras"
    path.write_bytes(content)
    with pytest.raises(sc.FileError, match=r"foreign\.keras"):
        read_keras(path)


def archive(path: Path, method: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    """Write a `.keras` file with some entries other than they are."""
    layer = sc.LSTM(4)
    write_keras(path, layer, to_keras(layer, layer.init(FEATURES)))
    names = {"config": "config.json", "metadata": "metadata.json", "weights": "model.weights.h5"}
    with zipfile.ZipFile(path) as old:
        found = {key: old.read(name) for key, name in names.items()}
    with zipfile.ZipFile(path, "w", method) as new:
        for key, content in {**found, **entries}.items():
            if content:
                new.writestr(names[key], content)
    return path


def config_of(**config: Any) -> bytes:
    layers = [{"class_name": "LSTM", "config": {"units": 4, "name": "layer_0", **config}}]
    return json.dumps({"class_name": "Sequential", "config": {"layers": layers}}).encode()


LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}
LAMBDA_LAYER = {
    "class_name": "Sequential",
    "config": {
        "layers": [
            {"class_name": "Lambda", "module": "keras.layers", "config": {"function": LAMBDA}}
        ]
    },
}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"config": b""}, "a zip archive without config.json"),
        ({"weights": b""}, "a zip archive without model.weights.h5"),
        ({"config": b"{"}, "config.json is not valid JSON"),
        ({"config": b"\xff"}, "config.json is not valid JSON"),
        ({"config": b"[" * 100_000}, "config.json is not valid JSON"),
        ({"config": b'{"a":' * 100_000}, "config.json is not valid JSON"),
        ({"config": b"[]"}, "config.json holds list, expected an object"),
        ({"config": b" " * (2**24 + 1)}, "config.json has 16777217 bytes, expected at most"),
        ({"metadata": b"3"}, "metadata.json holds int"),
        ({"config": b"{}"}, "the config is not one of a recurrent layer"),
        ({"config": b'{"class_name": "Sequential"}'}, "without class_name and config"),
        ({"config": b'{"class_name": "Sequential", "config": {"layers": [3]}}'}, "list of layers"),
        ({"config": json.dumps(LAMBDA_LAYER).encode()}, "Lambda is no recurrent layer"),
        ({"config": config_of(activation=LAMBDA)}, "activation is '__lambda__'"),
        ({"config": config_of(units=10**15)}, r"expected \(3, 4000000000000000\)"),
        ({"config": config_of(units=1e400)}, "units is inf"),
        ({"config": config_of(name="other")}, "__nothing__"),
        ({"weights": b"\x89HDF"}, "not an HDF5 file"),
        ({"metadata": b'{"keras_version": "2.14.0"}',
          "config": config_of(recurrent_activation="hard_sigmoid")}, "hard_sigmoid of Keras 2.14"),
    ],
)  # fmt: skip
def test_archives_that_harm(entries: dict[str, bytes], message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "hostile.keras", **entries)
    if message == "__nothing__":  # a layer's name is its own affair
        assert from_keras(read_keras(path))[0].units == 4
        return
    with pytest.raises((sc.FileError, sc.ConversionError), match=message):
        from_keras(read_keras(path))


def peak(call: Callable[[], Any]) -> int:
    """Return how many bytes a call that is refused takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises((sc.FileError, sc.ConversionError)):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zip_bomb(tmp_path: Path) -> None:
    bomb = bytes(2**26)
    for entries in ({"weights": bomb}, {"config": bomb}):
        path = archive(tmp_path / "bomb.keras", zipfile.ZIP_DEFLATED, **entries)
        assert path.stat().st_size < 2**18
        with pytest.raises(sc.FileError, match="is compressed, and Keras compresses nothing"):
            read_keras(path)
        assert peak(lambda path=path: read_keras(path)) < 2**20
    # An entry that says it is not compressed, and larger than the file is.
    path = archive(tmp_path / "bomb.keras")
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    assert peak(lambda: read_keras(path)) < 2**20


KERNEL = "layers/lstm/cell/vars/0"


def hdf5(path: Path, change: Callable[[Any, Path], None]) -> Path:
    layer = sc.LSTM(4)
    write_keras(path, layer, to_keras(layer, layer.init(FEATURES)))
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        change(file, path)
    return path


def outside(path: Path) -> Path:
    """Write numbers into another file, which nobody may read through the first."""
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["kernel"] = np.ones((3, 16), np.float32)
    return other


def external_link(file: Any, path: Path) -> None:
    file[KERNEL] = h5py.ExternalLink(str(outside(path)), "kernel")


def soft_link(file: Any, path: Path) -> None:
    file[KERNEL] = h5py.SoftLink("/layers/lstm/cell/vars/1")


def dangling_link(file: Any, path: Path) -> None:
    file[KERNEL] = h5py.SoftLink("/nowhere")


def external_storage(file: Any, path: Path) -> None:
    raw = path.with_name("raw")
    raw.write_bytes(bytes(3 * 16 * 4))
    file.create_dataset(KERNEL, (3, 16), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


def virtual(file: Any, path: Path) -> None:
    layout = h5py.VirtualLayout((3, 16), "f4")
    layout[:] = h5py.VirtualSource(str(outside(path)), "kernel", (3, 16))
    file.create_virtual_dataset(KERNEL, layout)


def hard_link_cycle(file: Any, path: Path) -> None:
    file["layers/lstm/cell/vars/0"] = file["layers"]


def twice(file: Any, path: Path) -> None:
    for index in range(1000):
        file[f"layers/lstm_{index}/cell/vars/0"] = file["layers/lstm/cell/vars/1"]


def deep(file: Any, path: Path) -> None:
    file.create_group("a/" * 5000)


HARMFUL: dict[str, tuple[Callable[[Any, Path], Any], str]] = {
    "external link": (external_link, r"is a link \(ExternalLink\), which is not followed"),
    "soft link": (soft_link, r"is a link \(SoftLink\)"),
    "dangling link": (dangling_link, r"is a link \(SoftLink\)"),
    "external storage": (external_storage, "has its numbers in other files"),
    "virtual": (virtual, "has its numbers in other files"),
    "cycle": (hard_link_cycle, "stands in the file twice"),
    "twice": (twice, "stands in the file twice"),
    "deep": (deep, "more than 16 groups deep"),
    "absurd shape": (
        lambda f, _: f.create_dataset(KERNEL, (2**40, 2**20), "f4"),
        "has shape .* bytes, expected at most the 0 that the file has",
    ),
    "absurd chunks": (
        lambda f, _: f.create_dataset(KERNEL, (2**40, 16), "f4", chunks=(16, 16)),
        "expected at most the 0 that the file has",
    ),
    "nothing stored": (
        lambda f, _: f.create_dataset(KERNEL, (3, 16), "f4"),
        "expected at most the 0 that the file has",
    ),
    "compressed": (
        lambda f, _: f.create_dataset(KERNEL, data=np.zeros((2**20, 16)), compression="gzip"),
        "is compressed, and Keras compresses nothing",
    ),
    "text": (lambda f, _: f.create_dataset(KERNEL, data="x"), "has dtype object, expected numbers"),
    "references": (
        lambda f, _: f.create_dataset(KERNEL, data=f["layers"].ref, dtype=h5py.ref_dtype),
        "expected numbers",
    ),
    "records": (
        lambda f, _: f.create_dataset(KERNEL, data=np.zeros(3, [("a", "f4")])),
        "expected numbers",
    ),
    "complex": (lambda f, _: f.create_dataset(KERNEL, data=np.zeros((3, 16), complex)), "numbers"),
    "two bytes": (
        lambda f, _: f.create_dataset(KERNEL, data=np.zeros((3, 16), "V2")),
        r"dtype \|V2, expected numbers",
    ),
    "empty": (lambda f, _: f.create_dataset(KERNEL, data=h5py.Empty("f4")), "has no shape"),
    "integers": (
        lambda f, _: f.create_dataset(KERNEL, data=np.ones((3, 16), "i4")),
        "kernel is int32, expected one dtype",
    ),
    "a type": (
        lambda f, _: f.__setitem__(KERNEL, np.dtype("f4")),
        "lacks its kernel",
    ),
    "no kernel": (lambda f, _: None, "lacks its kernel"),
    "attributes": (
        lambda f, _: f.attrs.__setitem__("model_config", ["{}"] * 1000),
        r"attribute model_config has dtype object, shape \(1000,\)",
    ),
    "a number": (
        lambda f, _: f.attrs.__setitem__("model_config", 3),
        "attribute model_config has dtype int64",
    ),
    "a long text": (
        lambda f, _: f.attrs.__setitem__("model_config", "[" * (2**24 + 1)),
        "has 16777217 characters, expected at most",
    ),
    "deep JSON": (
        lambda f, _: f.attrs.__setitem__("model_config", "[" * 100_000),
        "model_config is not valid JSON",
    ),
    "another config": (
        lambda f, _: f.attrs.__setitem__("model_config", config_of().decode()),
        "0 weights where LSTM",
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_hdf5_that_harms(name: str, tmp_path: Path) -> None:
    change, message = HARMFUL[name]
    path = hdf5(tmp_path / "hostile.weights.h5", change)
    with pytest.raises((sc.FileError, sc.ConversionError), match=message):
        from_keras(read_keras(path))
    assert peak(lambda: from_keras(read_keras(path))) < 2**20 + 4 * path.stat().st_size


def test_other_byte_orders_and_uncompressed_chunks_are_read(tmp_path: Path) -> None:
    def change(file: Any, path: Path) -> None:
        kernel = np.arange(48, dtype=">f4").reshape(3, 16)
        file.create_dataset(KERNEL, data=kernel, chunks=(2, 16))

    _, weights = from_keras(read_keras(hdf5(tmp_path / "a.weights.h5", change)))
    np.testing.assert_array_equal(weights["kernel"], np.arange(48).reshape(3, 16))
    assert weights["kernel"].dtype == np.dtype("f4")


def legacy(path: Path, config: Any, **groups: Any) -> Path:
    """Write a file as Keras 2 did, the kernels being numbered by their paths' order."""
    with h5py.File(path, "w") as file:
        model = {"class_name": "Sequential", "config": {"layers": [config]}}
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["keras_version"] = b"2.4.0"
        for index, (folder, scale) in enumerate(groups.items()):
            for name, shape in (
                ("kernel", (4, 16)),
                ("recurrent_kernel", (4, 16)),
                ("bias", (16,)),
            ):
                place = f"model_weights/layer/{folder}/{name}:0".replace("//", "/")
                file[place] = np.full(shape, scale + index, np.float32)
    return path


def test_files_of_keras_2(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    options = {"name": "layer", "units": 4}
    plain = {"class_name": "LSTM", "config": options}
    _, weights = from_keras(read_keras(legacy(path, plain, **{"layer/lstm_cell": 1})))
    assert weights["kernel"].mean() == 1
    inner = {"class_name": "LSTM", "config": {**options, "name": "lstm"}}
    both = {"class_name": "Bidirectional", "config": {"name": "layer", "layer": inner}}
    folders = {"layer/backward_lstm/lstm_cell_2": 1, "layer/forward_lstm/lstm_cell_1": 2}
    _, weights = from_keras(read_keras(legacy(path, both, **folders)))
    assert [weights[f"{one}.bias"].mean() for one in ("backward", "forward")] == [1, 3]
    # Directions by names of one's own, of which the file says which is which.
    other = {"class_name": "LSTM", "config": {**options, "name": "b", "go_backwards": True}}
    both["config"] = {"name": "layer", "layer": inner, "backward_layer": other}
    folders = {"layer/b/lstm_cell": 1, "layer/lstm/lstm_cell": 2}
    _, weights = from_keras(read_keras(legacy(path, both, **folders)))
    assert [weights[f"{one}.bias"].mean() for one in ("backward", "forward")] == [1, 3]
    folders = {"layer/b/lstm_cell": 1, "layer/a/lstm_cell": 2}
    with pytest.raises(sc.ConversionError, match="0 weights where"):
        from_keras(read_keras(legacy(path, both, **folders)))


def test_texts_that_the_library_would_not_survive(tmp_path: Path) -> None:
    path = legacy(tmp_path / "model.h5", {"class_name": "LSTM", "config": {"units": 4}})
    content = path.read_bytes()
    # A text of 4 GiB, of which the file has a few bytes.
    found = json.loads(h5py.File(path).attrs["model_config"])
    length = content.find(struct.pack("<I", len(json.dumps(found))))
    path.write_bytes(content[:length] + b"\xff" * 4 + content[length + 4 :])
    with pytest.raises(sc.FileError, match="its length is 4294967295, and the file has"):
        read_keras(path)
    assert peak(lambda: read_keras(path)) < 2**20
    # A list of texts whose first item is free space of no size.
    start = content.find(b"GCOL") + 16
    path.write_bytes(content[:start] + bytes(16) + content[start + 16 :])
    with pytest.raises(sc.FileError, match="the list of texts that it is in does not end"):
        read_keras(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_texts_in_every_form(libver: str, tmp_path: Path) -> None:
    text = config_of(name="layer").decode()
    for form in (text, text.encode(), np.bytes_(text.encode())):
        with h5py.File(tmp_path / "model.h5", "w", libver=libver) as file:
            file.attrs["model_config"] = form
            values = dict(zip(("kernel", "recurrent_kernel", "bias"), lstm_values(), strict=True))
            for name, value in values.items():
                file[f"model_weights/layer/layer/lstm_cell/{name}:0"] = value
        layer, weights = from_keras(read_keras(tmp_path / "model.h5"))
        assert layer == sc.LSTM(4, mask_output="carry")
        np.testing.assert_array_equal(weights["kernel"], values["kernel"])


def lstm_values() -> list[Any]:
    return to_keras(sc.LSTM(4), sc.LSTM(4).init(FEATURES))


def test_without_h5py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.weights.h5", lambda f, _: None)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(sc.FileError, match="need h5py; pip install h5py"):
        read_keras(path)


def test_bytes_of_an_archive_are_those_of_its_parts(tmp_path: Path) -> None:
    layer = sc.LSTM(4)
    values = to_keras(layer, layer.init(FEATURES))
    write_keras(tmp_path / "a.keras", layer, values)
    write_keras(tmp_path / "a.weights.h5", layer, values)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "a.keras").read_bytes())) as found:
        assert {one.compress_type for one in found.infolist()} == {zipfile.ZIP_STORED}
        assert found.read("model.weights.h5") == (tmp_path / "a.weights.h5").read_bytes()
