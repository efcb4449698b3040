"""Files on disk: what goes in comes out bit for bit, a damaged file is refused, a whole one is never lost."""

import hashlib
import io
import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from xpnet.backends import resolve
from xpnet.data.dataset import Scaling
from xpnet.errors import DivergenceError, InputError
from xpnet.maths.mlp import MLP
from xpnet.training.checkpoint import load_state, read_about, save_state
from xpnet.training.loop import Best, TrainState
from xpnet.training.model import Model, describe, load_model, save_model

MODEL_SIZES = (4, 3, 2)
ABOUT = {"options": {"hidden": [3], "out": None, "lr": 0.1}, "data_sha256": "ü", "sizes": [4, 3, 2]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "it.safetensors"


def numbers(n, seed=0, dtype="float32"):
    """Numbers of all magnitudes, with those that text or arithmetic would change on the way."""
    values = np.random.default_rng(seed).standard_normal(n) * 10.0 ** np.arange(-20, n - 20)
    values[:3] = -0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    return values.astype(dtype)


def a_state(dtype="float32", n=30, best=True, moments=2):
    return TrainState(
        theta=numbers(n, 0, dtype),
        moments=tuple(numbers(n, 1 + i, dtype) for i in range(moments)),
        loss_sum=np.array(1 / 3, dtype=dtype),
        step=2**40,
        epoch=3,
        batch=17,
        learning_rate=0.1 + 0.2,
        seconds=1 / 3,
        best=Best(numbers(n, 9, dtype), 0.1, 2) if best else None,
    )


def a_model(seed=0, dtype="float32", picture=(2, 2)):
    mlp = MLP(MODEL_SIZES, "tanh")
    theta = np.random.default_rng(seed).standard_normal(mlp.layout.n_parameters).astype(dtype)
    scaling = Scaling(np.array([0.1, 0.2, 0.3, 0.4]), np.array([1 / 3]))
    return Model(mlp, theta, np.array(["yes", "nö"]), picture, scaling)


def write_version_1(path, kind, tensors, about):
    """What the files of version 1 consist of, spelled out."""
    header = {"format": kind, "version": "1", "about": json.dumps(about)}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    save_file(tensors, path, header | {"sha256": digest.hexdigest()})


def tensors_of(model):
    """The layers as a file has them."""
    tensors = {}
    for i, (W, b) in enumerate(model.mlp.layout.split(model.theta, xp=np)):
        tensors |= {f"layers.{i}.weight": W, f"layers.{i}.bias": b}
    return tensors


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# There and back


@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("best", [True, False])
@pytest.mark.parametrize("moments", [0, 1, 2])
def test_a_state_comes_back_bit_for_bit(path, library, dtype, best, moments):
    pytest.importorskip(library)
    backend = resolve("cpu", library, dtype)
    state = a_state(dtype, best=best, moments=moments)
    placed = TrainState(**vars(state))
    placed.theta, placed.loss_sum = backend.asarray(state.theta), backend.asarray(state.loss_sum)
    placed.moments = tuple(backend.asarray(m) for m in state.moments)
    if best:
        placed.best = state.best._replace(theta=backend.asarray(state.best.theta))
    save_state(path, placed, ABOUT, backend=backend)
    loaded, about = load_state(path, backend=backend)

    assert same_bits(backend.to_numpy(loaded.theta), state.theta)
    assert same_bits(backend.to_numpy(loaded.loss_sum), state.loss_sum)
    assert len(loaded.moments) == moments
    for ours, theirs in zip(loaded.moments, state.moments, strict=True):
        assert same_bits(backend.to_numpy(ours), theirs)
    for name in ("step", "epoch", "batch", "learning_rate", "seconds"):
        assert getattr(loaded, name) == getattr(state, name)
    assert (loaded.best is None) is not best
    if best:
        assert same_bits(backend.to_numpy(loaded.best.theta), state.best.theta)
        assert loaded.best[1:] == state.best[1:]
    assert about == ABOUT
    assert read_about(path) | ABOUT == read_about(path)


def assert_same_model(ours, theirs):
    assert same_bits(ours.theta, theirs.theta)
    assert ours.mlp == theirs.mlp
    for name in ("picture", "columns", "estimator", "unfinished"):
        assert getattr(ours, name) == getattr(theirs, name), name
    pairs = [(ours.classes, theirs.classes)]
    for name in ("scaling", "target_scaling"):
        pair = getattr(ours, name), getattr(theirs, name)
        pairs += [pair] if None in pair else zip(*pair, strict=True)
    for a, b in pairs:
        assert same_bits(a, b) if b is None or b.dtype.kind != "O" else a.tolist() == b.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("picture", [(2, 3), (1, 6), None])
def test_a_model_comes_back_bit_for_bit(path, dtype, picture):
    model = a_model(dtype=dtype, picture=picture)
    save_model(path, model)
    assert_same_model(load_model(path), model)


def test_a_model_of_numbers_comes_back_bit_for_bit(path):
    mlp = MLP((2, 3), (), "poisson")
    columns = {"sex": ["f", "m"], "age": {"mean": 0.1}}
    target_scaling = Scaling(numbers(3, dtype="float64"), np.array([1 / 3, 0.1 + 0.2, 1e-300]))
    model = Model(mlp, numbers(9), None, target_scaling=target_scaling, columns=columns)
    save_model(path, model)
    assert_same_model(load_model(path), model)


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["no", "nö"]),
        np.array(["no", "maybe"], dtype=object),
        np.array([-3, 2**62]),
        np.array([2, 255], dtype=np.uint8),
        np.array([0.1, 1 / 3]),
        np.array([0.1, 1 / 3], dtype=np.float32),
        np.array([False, True]),
    ],
    ids=lambda classes: str(classes.dtype),
)
def test_class_labels_keep_their_type(path, classes):
    save_model(path, replace(a_model(), classes=classes))
    loaded = load_model(path).classes
    assert loaded.dtype == classes.dtype
    assert loaded.tolist() == classes.tolist()
    assert list(map(type, loaded.tolist())) == list(map(type, classes.tolist()))


def test_class_labels_that_json_cannot_hold_are_refused(path):
    with pytest.raises(InputError, match=r"class labels that are numbers or text, got .*None"):
        save_model(path, replace(a_model(), classes=np.array([None, "a"], dtype=object)))
    assert not path.exists()


def test_a_loss_of_ones_own_has_no_name_in_a_file(path):
    model = a_model()
    with pytest.raises(InputError, match="a model with a custom loss cannot be saved"):
        save_model(path, replace(model, mlp=replace(model.mlp, loss=model.mlp.criterion)))
    assert not path.exists()


# Files of earlier versions


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_model_of_version_1_is_read(path, kind):
    model, about = a_model(), {"activations": ["tanh"], "loss": "softmax_cross_entropy"}
    if kind == "numbers":
        targets = Scaling(np.array([5.0, 1 / 3]), np.array([0.1, 2.0]))
        model = replace(model, classes=None, picture=None, target_scaling=targets)
        model = replace(model, mlp=replace(model.mlp, loss="squared_error"))
        about["loss"] = "squared_error"
    tensors = tensors_of(model) | {
        "scaling.shift": model.scaling.shift,
        "scaling.factor": model.scaling.factor,
    }
    if kind == "numbers":
        tensors |= {"targets.shift": targets.shift, "targets.factor": targets.factor}
    about |= {"sizes": [4, 3, 2], "classes": None, "picture": None}
    if kind == "classes":
        about |= {"classes": ["yes", "nö"], "picture": [2, 2]}
    write_version_1(path, "xpnet model", tensors, about)
    assert_same_model(load_model(path), model)


def test_a_checkpoint_of_an_earlier_version_continues_but_does_not_predict(path):
    save_state(path, a_state(), ABOUT, backend=resolve("cpu"))
    with pytest.raises(InputError, match=rf"{path.name}: .*Finish the run first: xpnet train --resume"):
        load_model(path)
    assert load_state(path, backend=resolve("cpu"))[1] == ABOUT


# A folder


def test_the_folder_of_a_run_is_its_model_or_else_its_checkpoint(tmp_path):
    model, backend = a_model(), resolve("cpu")
    state = replace(a_state(), theta=2 * model.theta)
    about = ABOUT | {"model": describe(model), "options": {"epochs": 50}}
    save_state(tmp_path / "checkpoint.safetensors", state, about, backend=backend)
    unfinished = replace(model, theta=state.theta, unfinished=(state.epoch, 50))
    assert_same_model(load_model(tmp_path), unfinished)
    assert_same_model(load_model(tmp_path / "checkpoint.safetensors"), unfinished)
    save_model(tmp_path / "model.safetensors", model)
    assert_same_model(load_model(tmp_path), model)


@pytest.mark.parametrize(
    "strided", [lambda x: x[::-1], lambda x: np.repeat(x, 2)[::2], lambda x: np.stack([x, x], axis=1)[:, 1]]
)
def test_arrays_with_gaps_come_back_in_order(path, strided):
    # safetensors itself writes such an array in the order of its memory, without a word.
    backend, state = resolve("cpu"), a_state()
    expected = state.theta, state.moments[0]
    state.theta, state.moments = strided(state.theta), (strided(state.moments[0]),)
    assert not state.theta.flags.c_contiguous
    values = state.theta.copy()
    save_state(path, state, {}, backend=backend)
    loaded = load_state(path, backend=backend)[0]
    assert same_bits(loaded.theta, values)
    assert same_bits(loaded.moments[0], strided(expected[1]).copy())


def test_a_strided_model_comes_back_in_order(path):
    model = a_model()
    save_model(path, replace(model, theta=model.theta[::-1]))
    assert same_bits(load_model(path).theta, model.theta[::-1].copy())


# As others read it


def test_plain_safetensors_reads_a_checkpoint(path):
    state = a_state()
    save_state(path, state, ABOUT, backend=resolve("cpu"))
    tensors = load_file(path)
    assert set(tensors) == {"theta", "moments.0", "moments.1", "loss", "best.theta"}
    assert same_bits(tensors["theta"], state.theta)
    assert same_bits(tensors["moments.1"], state.moments[1])
    assert tensors["loss"].shape == ()
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    assert header["format"] == "xpnet checkpoint"
    assert json.loads(header["about"])["progress"]["step"] == state.step


def test_plain_safetensors_reads_a_model(path):
    model = a_model()
    save_model(path, model)
    tensors = load_file(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {
        "layers.0.weight": (4, 3),
        "layers.0.bias": (3,),
        "layers.1.weight": (3, 2),
        "layers.1.bias": (2,),
    }
    X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    h = np.tanh(X @ tensors["layers.0.weight"] + tensors["layers.0.bias"])
    z = h @ tensors["layers.1.weight"] + tensors["layers.1.bias"]
    np.testing.assert_allclose(z, model.mlp.forward(model.theta, X, xp=np), rtol=1e-5)


def test_pytorch_computes_the_same_from_the_file(path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    model = a_model(dtype="float64")
    save_model(path, model)
    tensors = load_torch(path)
    linear = [torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.Linear(3, 2, dtype=torch.float64)]
    for i, layer in enumerate(linear):
        layer.load_state_dict(
            {"weight": tensors[f"layers.{i}.weight"].T, "bias": tensors[f"layers.{i}.bias"]}
        )
    X = np.random.default_rng(0).standard_normal((5, 4))
    with torch.no_grad():
        z = torch.nn.Sequential(linear[0], torch.nn.Tanh(), linear[1])(torch.asarray(X))
    np.testing.assert_allclose(model.mlp.forward(model.theta, X, xp=np), z, rtol=1e-12)


# Never half a file


class FullDisk(io.FileIO):
    """A file on a disk with room for seven bytes."""

    def write(self, data):
        super().write(data[:7])
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["builtins.open", "os.fsync", "os.replace"])
def test_a_failure_while_writing_keeps_the_file_of_before(path, monkeypatch, broken):
    backend, before = resolve("cpu"), a_state()
    save_state(path, before, ABOUT, backend=backend)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, FullDisk if broken == "builtins.open" else fail)
    after = a_state()
    after.step += 1
    with pytest.raises(OSError, match="No space left"):
        save_state(path, after, ABOUT, backend=backend)
    monkeypatch.undo()
    assert load_state(path, backend=backend)[0].step == before.step
    assert os.listdir(path.parent) == [path.name]  # a full disk must not stay full


def test_a_file_appears_whole_and_on_the_disk(path, monkeypatch):
    """The order that survives a power cut: all bytes, to the disk, the name."""
    calls, replace, fsync = [], os.replace, os.fsync

    def recorded_fsync(file):
        calls.append("fsync")
        fsync(file)

    def recorded_replace(part, place):
        calls.append("replace")
        assert read_about(part) == read_about(part)  # whole already
        assert not path.exists()
        replace(part, place)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    save_state(path, a_state(), ABOUT, backend=resolve("cpu"))
    assert calls[:2] == ["fsync", "replace"]
    assert load_state(path, backend=resolve("cpu"))[1] == ABOUT


@pytest.mark.parametrize("where", ["theta", "moments", "loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_not_saved(path, where, value):
    backend, state = resolve("cpu"), a_state()
    save_state(path, state, ABOUT, backend=backend)
    before = path.read_bytes()
    spoilt = {"theta": state.theta, "moments": state.moments[1], "loss": state.loss_sum}[where]
    spoilt[(5,) if spoilt.ndim else ()] = value
    with pytest.raises(DivergenceError, match=r"epoch 4, by step 1099511627776, at learning rate 0\.3"):
        save_state(path, state, ABOUT, backend=backend)
    assert path.read_bytes() == before


# What is refused


@pytest.fixture
def files(path):
    """A model and a checkpoint on disk, with what reads each."""
    save_model(path, a_model())
    state = path.with_name("state.safetensors")
    save_state(state, a_state(n=8), {"sizes": [1]}, backend=resolve("cpu"))
    return {
        "model": (path, load_model),
        "checkpoint": (state, lambda p: load_state(p, backend=resolve("cpu"))),
    }


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_any_changed_bit_is_refused(files, kind):
    path, read = files[kind]
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
        with pytest.raises(InputError, match=path.name):
            read(path)
    path.write_bytes(good)
    read(path)


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_any_other_length_is_refused(files, kind):
    path, read = files[kind]
    good = path.read_bytes()
    for length in [*range(0, len(good), 7), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match="not a complete safetensors file"):
            read(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(InputError, match="not a complete safetensors file"):
        read(path)


def edited(path, edit):
    """Rewrite the header of a safetensors file, as someone who knows the format but not the checksum."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def set_about(header, **changes):
    about = header["__metadata__"]["about"]
    header["__metadata__"]["about"] = json.dumps(json.loads(about) | changes)


def swap(header):
    a, b = header["layers.0.bias"], header["layers.1.bias"]
    header["layers.0.bias"], header["layers.1.bias"] = b, a


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda header: set_about(header, classes=["<U3", ["no", "nö"]]), "SHA-256 hash does not match"),
        (lambda header: set_about(header, activations=["relu"]), "SHA-256 hash does not match"),
        (lambda header: header["layers.0.weight"].update(dtype="I32"), "SHA-256 hash does not match"),
        (lambda header: header["layers.0.weight"].update(dtype="BF16", shape=[4, 6]), "it.safetensors"),
        (lambda header: header["layers.0.weight"].update(shape=[3, 4]), "SHA-256 hash does not match"),
        (lambda header: header["layers.0.weight"].update(shape=[2**40, 2**40]), "not a complete safetensors"),
        (swap, "SHA-256 hash does not match"),
        (lambda header: header["__metadata__"].pop("sha256"), "SHA-256 hash does not match"),
        (lambda header: header["__metadata__"].update(note="hello"), "SHA-256 hash does not match"),
        (lambda header: header["__metadata__"].pop("about"), "SHA-256 hash does not match"),
        (
            lambda header: header["__metadata__"].update(version="3"),
            "expected format version 1 or 2, found 3: use the version of xpnet that wrote it",
        ),
        (lambda header: header["__metadata__"].pop("version"), "expected format version 1 or 2, found none"),
        (lambda header: header.pop("__metadata__"), "expected an xpnet model, found another safetensors"),
    ],
)
def test_an_edited_header_is_refused(files, edit, said):
    path, read = files["model"]
    edited(path, edit)
    with pytest.raises(InputError, match=f"{path.name}: .*{said}" if said != path.name else said):
        read(path)


def test_one_kind_is_not_taken_for_the_other(files):
    (model, read_model), (state, read_state) = files.values()
    with pytest.raises(InputError, match="cannot predict"):
        read_model(state)
    with pytest.raises(InputError, match="expected an xpnet checkpoint, found xpnet model"):
        read_state(model)


def test_a_file_of_someone_else_is_refused(path):
    save_file({"layers.0.weight": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(InputError, match="another safetensors file"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95 pickle", bytes(1000)])
def test_a_file_that_is_none_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"it\.safetensors: not a complete safetensors file"):
        load_model(path)


def test_no_file_and_an_empty_folder_are_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}: no such file"):
            load_model(path)
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: no such file"):
        load_state(tmp_path / "checkpoint.safetensors", backend=resolve("cpu"))
