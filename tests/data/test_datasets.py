"""Data sets as a user meets them: what comes out of a file, and what is said about a bad one."""

import gzip
import hashlib
import io
import re
import shutil
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from sklearn import datasets as sklearn_datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from xpnet.data import download, mnist
from xpnet.data.idx import read_idx
from xpnet.data.loading import NAMES, load
from xpnet.errors import InputError

REAL_MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def idx_bytes(values, shape, kind=8):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + bytes(values)


def fake_mnist(n_train=20, n_test=10):
    """Return the bytes of four small files of MNIST's names and layout."""
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        pixels = rng.integers(0, 256, n * 28 * 28).tolist()
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(pixels, (n, 28, 28)), mtime=0)
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes([i % 10 for i in range(n)], (n,)))
    return files


def fill(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def refusal(action, *args, **kwargs):
    """Return the message with which the action is refused."""
    with pytest.raises(InputError) as caught:
        action(*args, **kwargs)
    return str(caught.value)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


# IDX


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_is_read_by_content_whatever_its_name(tmp_path, shape, pack):
    path = tmp_path / "any-name.gz"
    path.write_bytes(pack(idx_bytes([0, 1, 2, 253, 254, 255], shape)))
    values = read_idx(path)
    assert values.dtype == np.uint8
    assert values.tolist() == np.array([0, 1, 2, 253, 254, 255]).reshape(shape).tolist()
    values[...] = 0  # the array is the caller's own


GOOD = idx_bytes([1, 2, 3, 4], (2, 2))
ZIPPED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ["byte 0", "at least 4 bytes", "found 0"]),
        (GOOD[:3], ["byte 0", "found 3"]),
        (b"PK" + GOOD[2:], ["byte 0", "expected the IDX magic 00 00", "found 50 4b"]),
        (GOOD[:2] + b"\x0d" + GOOD[3:], ["byte 2", "0x08 (unsigned byte)", "0x0d (float)"]),
        (GOOD[:2] + b"\x77" + GOOD[3:], ["byte 2", "0x77 (no IDX type)"]),
        (GOOD[:3] + b"\0" + GOOD[4:], ["byte 3", "at least one dimension", "found 0"]),
        (GOOD[:9], ["byte 9", "expected 2 sizes up to byte 12", "found the end"]),
        (GOOD[:-1], ["byte 15", "expected 2 x 2 values, up to byte 16", "found the end"]),
        (GOOD + b"xyz", ["byte 16", "found 3 more bytes"]),
        (gzip.compress(GOOD[:-1]), ["after decompression", "byte 15", "found the end"]),
        (ZIPPED[:-9], [f"byte {len(ZIPPED) - 9}", "expected more gzip data"]),
        (ZIPPED + b"xyz", [f"byte {len(ZIPPED)}", "found 3 more bytes"]),
        (ZIPPED[:10] + b"\xff" * 9 + ZIPPED[19:], ["bytes 0 to", "expected gzip data", "found"]),
        (ZIPPED[:-8] + b"\0" * 8, ["expected gzip data", "incorrect data check"]),
    ],
)
def test_broken_idx_is_refused_with_place_expected_and_found(tmp_path, content, said):
    path = tmp_path / "broken"
    path.write_bytes(content)
    message = refusal(read_idx, path)
    assert all(part in message for part in [str(path), "expected", *said]), message


def test_missing_or_unreadable_idx(tmp_path):
    assert "No such file" in refusal(read_idx, tmp_path / "none")
    assert str(tmp_path) in refusal(read_idx, tmp_path)


# MNIST from a folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_from_a_folder(tmp_path, name, zipped):
    files = fake_mnist()
    if not zipped:
        files = {file.removesuffix(".gz"): gzip.decompress(content) for file, content in files.items()}
    data = load(name, data_dir=fill(tmp_path / "data", files))
    assert (data.name, data.picture, len(data.classes)) == (name, (28, 28), 10)
    assert data.classes[0] == {"mnist": "0", "fashion-mnist": "T-shirt/top"}[name]
    assert data.X_train.shape == (20, 784)
    assert data.X_test.shape == (10, 784)
    assert data.X_train.dtype == np.uint8
    assert data.y_test.dtype == np.int64
    assert data.y_test.tolist() == list(range(10))
    np.testing.assert_allclose(data.scaling(data.X_train), data.X_train / 255, rtol=1e-6)


def test_mnist_with_numeric_targets(tmp_path):
    data = load("mnist", data_dir=fill(tmp_path, fake_mnist()), numeric_targets=True)
    assert data.classes is None
    assert data.y_train.shape == (20, 1)
    assert data.y_train.dtype == np.float64


def test_missing_files_of_a_folder_are_named_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("a data_dir must not be written to"))
    files = fake_mnist()
    del files["t10k-labels-idx1-ubyte.gz"]
    message = refusal(load, "mnist", data_dir=fill(tmp_path, files))
    assert "missing: t10k-labels-idx1-ubyte.gz" in message
    assert str(tmp_path) in message
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "train-images" in refusal(mnist.read_mnist, "mnist", download=False)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("train-labels-idx1-ubyte", idx_bytes([1] * 19, (19,)), ["expected 20 labels", "found 19"]),
        (
            "t10k-labels-idx1-ubyte",
            idx_bytes([0] * 9 + [10], (10,)),
            ["byte 17", "expected 0 to 9", "found 10"],
        ),
        ("train-images-idx3-ubyte", idx_bytes([1] * 20, (20,)), ["expected 3 dimensions", "found 1"]),
        ("t10k-labels-idx1-ubyte", idx_bytes([1] * 10, (10, 1)), ["expected 1 dimension", "found 2"]),
        ("t10k-images-idx3-ubyte", idx_bytes([1] * 40, (10, 2, 2)), ["X_test", "(28, 28)", "(2, 2)"]),
        ("train-labels-idx1-ubyte", idx_bytes([7] * 20, (20,)), ["at least two classes", "'7'"]),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, file, content, said):
    message = refusal(load, "mnist", data_dir=fill(tmp_path, fake_mnist() | {f"{file}.gz": content}))
    assert all(part in message for part in said), message


def test_fewer_rows_than_classes(tmp_path):
    message = refusal(load, "mnist", data_dir=fill(tmp_path, fake_mnist(n_train=9)))
    assert "expected at least 10 rows" in message
    assert "found 9" in message


@pytest.mark.parametrize("numeric", [False, True])
def test_no_rows(tmp_path, numeric):
    folder = fill(tmp_path, fake_mnist(n_train=0))
    assert "X has no rows" in refusal(load, "mnist", data_dir=folder, numeric_targets=numeric)


@pytest.mark.skipif(not REAL_MNIST.is_dir(), reason="the real MNIST files are not beside this project")
def test_real_mnist():
    data = load("mnist", data_dir=REAL_MNIST)
    assert data.X_train.shape == (60000, 784)
    assert data.X_test.shape == (10000, 784)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.scaling(data.X_train).mean() == pytest.approx(0.1307, abs=1e-4)
    for file, sha256 in mnist.SHA256["mnist"].items():
        assert hashlib.sha256((REAL_MNIST / file).read_bytes()).hexdigest() == sha256


# Download


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Two mirrors on this machine, `/a/` and `/b/`, for small files of MNIST's names."""

    class Mirror(BaseHTTPRequestHandler):
        files = fake_mnist()
        wrong = frozenset()  # mirrors with other bytes
        refusing = frozenset()
        ranges = True
        cut = None  # bytes after which mirror a hangs up

        def do_GET(self):
            _, mirror, file = self.path.split("/")
            asked_range = self.headers["Range"]
            self.asked.append((self.path, asked_range))
            content = b"a login page" if mirror in self.wrong else self.files[file]
            if mirror in self.refusing:
                self.send_error(403)
                return
            start = 0
            if asked_range and self.ranges:
                start = int(asked_range.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : self.cut if mirror == "a" else None])

        def log_message(self, *_):
            pass

    Mirror.asked = []
    Mirror.cache = tmp_path / "cache" / "xpnet" / "mnist"
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        base = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setitem(mnist.MIRRORS, "mnist", (f"{base}/a/", f"{base}/b/"))
        sums = {file: hashlib.sha256(content).hexdigest() for file, content in Mirror.files.items()}
        monkeypatch.setitem(mnist.SHA256, "mnist", sums)
        yield Mirror
        http.shutdown()
        thread.join()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_download_once_into_the_cache(server, capsys):
    data = load("mnist")
    assert data.X_train.shape == (20, 784)
    assert contents(server.cache) == server.files
    shown = capsys.readouterr()
    assert re.findall(r"^downloading http.+/(.+)$", shown.err, re.MULTILINE) == list(server.files)
    assert "\r" not in shown.err
    assert shown.out == ""
    assert {path for path, _ in server.asked} == {f"/a/{file}" for file in server.files}
    del server.asked[:]
    load("mnist")
    assert server.asked == []


def test_a_download_on_a_terminal_has_a_bar_unless_it_is_quiet(server, monkeypatch):
    for quiet, names in ((True, []), (False, list(server.files))):
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr("sys.stderr", terminal)
        load("mnist", quiet=quiet)
        assert re.findall(r"\r(\S+): 100%", terminal.getvalue()) == names
        shutil.rmtree(server.cache)


def test_the_cache_follows_the_platform(server, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "windows"))
    load("mnist")
    assert contents(tmp_path / "windows" / "xpnet" / "mnist") == server.files
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    load("mnist")
    assert contents(tmp_path / ".cache" / "xpnet" / "mnist") == server.files


def test_files_put_into_the_cache_by_hand_are_used(server):
    server.cache.mkdir(parents=True)
    fill(server.cache, {name.removesuffix(".gz"): gzip.decompress(c) for name, c in server.files.items()})
    load("mnist")
    assert server.asked == []


@pytest.mark.parametrize("trouble", ["refusing", "wrong"])
def test_second_mirror(server, trouble):
    setattr(server, trouble, {"a"})
    load("mnist")
    assert contents(server.cache) == server.files


def test_refused_by_all(server):
    server.refusing = {"a", "b"}
    message = refusal(load, "mnist")
    for mirror in mnist.MIRRORS["mnist"]:
        assert f"{mirror}train-images-idx3-ubyte.gz: HTTP Error 403" in message
    assert f"Put train-images-idx3-ubyte.gz into {server.cache} by hand" in message
    assert contents(server.cache) == {}


def test_nobody_there(server, monkeypatch):
    monkeypatch.setitem(mnist.MIRRORS, "mnist", ("http://127.0.0.1:1/",))
    assert "refused" in refusal(load, "mnist")
    assert contents(server.cache) == {}


def test_wrong_checksum_leaves_nothing(server):
    server.wrong = {"a", "b"}
    message = refusal(load, "mnist")
    right = mnist.SHA256["mnist"]["train-images-idx3-ubyte.gz"]
    wrong = hashlib.sha256(b"a login page").hexdigest()
    assert message.count(f"expected SHA-256 {right}, found {wrong}") == 2
    assert contents(server.cache) == {}


def test_interrupted_download_is_resumed_where_it_stopped(server):
    server.cut, server.refusing = 1000, {"b"}
    message = refusal(load, "mnist")
    images = server.files["train-images-idx3-ubyte.gz"]
    assert f"the connection ended after 1000 of {len(images)} bytes" in message
    assert contents(server.cache) == {"train-images-idx3-ubyte.gz.part": images[:1000]}

    server.cut, server.asked[:] = None, []
    load("mnist")
    assert server.asked[0] == ("/a/train-images-idx3-ubyte.gz", "bytes=1000-")
    assert contents(server.cache) == server.files


def test_connection_lost_before_the_first_byte(server):
    server.cut, server.refusing = 0, {"b"}
    assert "before the first byte" in refusal(load, "mnist")
    assert contents(server.cache) == {}


def test_a_full_disk_is_freed(server, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, data):
            super().write(data[:1000])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "open", FullDisk, raising=False)
    assert "No space left on device" in refusal(load, "mnist")
    assert contents(server.cache) == {}


def test_second_mirror_resumes_what_the_first_began(server):
    server.cut = 1000
    load("mnist")
    assert ("/b/train-images-idx3-ubyte.gz", "bytes=1000-") in server.asked
    assert contents(server.cache) == server.files


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "part",
    [lambda whole: whole[:500], lambda whole: whole, lambda whole: b"x" * 500, lambda whole: whole * 2],
)
def test_whatever_part_is_left_the_file_comes_out_whole(server, ranges, part):
    server.ranges = ranges
    server.cache.mkdir(parents=True)
    whole = server.files["train-images-idx3-ubyte.gz"]
    (server.cache / "train-images-idx3-ubyte.gz.part").write_bytes(part(whole))
    load("mnist")
    assert contents(server.cache) == server.files


# Digits


def test_digits_are_scikit_learns():
    data = load("digits", seed=3)
    X, y = sklearn_datasets.load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=3, stratify=y)
    np.testing.assert_array_equal(data.X_train, X_train)
    np.testing.assert_array_equal(data.X_test, X_test)
    np.testing.assert_array_equal(data.y_train, y_train)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert (data.name, data.picture, data.classes) == ("digits", (8, 8), tuple("0123456789"))
    assert data.X_train.dtype == np.uint8
    np.testing.assert_array_equal(data.scaling(data.X_train), (X_train / 16).astype(np.float32))


def test_the_seed_decides_the_split():
    assert np.array_equal(load("digits", seed=1).y_train, load("digits", seed=1).y_train)
    assert not np.array_equal(load("digits", seed=1).y_train, load("digits", seed=2).y_train)


# MATLAB


def columns_first(pictures):
    return np.stack([picture.ravel(order="F") for picture in pictures])


def test_mat_pictures_are_turned_and_ten_means_zero(tmp_path):
    digits = sklearn_datasets.load_digits()
    pictures = digits.images / 16
    labels = np.where(digits.target == 0, 10, digits.target).reshape(-1, 1).astype(np.uint8)
    savemat(tmp_path / "digits.mat", {"X": columns_first(pictures), "y": labels})
    data, oracle = load(tmp_path / "digits.mat"), load("digits")
    assert (data.name, data.picture, data.classes) == ("digits", (8, 8), tuple("0123456789"))
    np.testing.assert_array_equal(data.X_train, oracle.X_train / 16)
    np.testing.assert_array_equal(data.y_test, oracle.y_test)
    np.testing.assert_array_equal(data.scaling(data.X_test, "float64"), data.X_test)


def test_mat_table_keeps_its_columns_and_labels(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 4)), np.tile(np.arange(1, 11), 10)
    savemat(tmp_path / "t.mat", {"X": X, "y": y})
    data = load(tmp_path / "t.mat")
    assert data.picture is None
    assert data.classes == tuple(str(label) for label in range(1, 11))
    assert {tuple(row) for row in data.X_train} <= {tuple(row) for row in X}


def test_mat_keeps_the_several_targets_of_a_row(tmp_path):
    X = np.random.default_rng(0).normal(size=(100, 4))
    savemat(tmp_path / "t.mat", {"X": X, "y": X[:, :2] - X[:, 2:]})
    data = load(tmp_path / "t.mat", numeric_targets=True)
    assert data.classes is None
    assert len(data.y_train) + len(data.y_test) == 100
    np.testing.assert_array_equal(data.y_train, data.X_train[:, :2] - data.X_train[:, 2:])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"A": np.eye(3), "y": [1, 2, 3]}, ["expected variables X and y", "A, y"]),
        ({"X": {"field": 1.0}, "y": [1]}, ["X", "expected numbers"]),
        ({"X": np.array([[1j, 2j]]), "y": [1]}, ["expected numbers", "complex"]),
        ({"X": np.ones((3, 2)), "y": [1, 2]}, ["as many rows in y as in X, 3", "found 2"]),
        ({"X": np.ones((0, 2)), "y": np.ones((0, 1))}, ["X has no rows"]),
        ({"X": np.array([[1, np.nan], [2, 3]]), "y": [1, 2]}, ["row 0, column 1", "found nan"]),
    ],
)
def test_bad_mat(tmp_path, variables, said):
    savemat(tmp_path / "bad.mat", variables)
    message = refusal(load, tmp_path / "bad.mat")
    assert all(part in message for part in ["bad.mat", *said]), message


def test_mat_of_another_kind(tmp_path):
    from scipy.sparse import csc_array

    path = tmp_path / "bad.mat"
    path.write_bytes(b"not a MATLAB file at all" * 20)
    assert "cannot be read as a MATLAB file" in refusal(load, path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    assert "-v7" in refusal(load, path)
    savemat(path, {"X": csc_array(np.eye(3)), "y": [1, 2, 3]})
    assert "full(X)" in refusal(load, path)


# NPZ


def table(n=50, d=3, kinds=2):
    rng = np.random.default_rng(1)
    return rng.normal(5, 2, (n, d)), np.arange(n) % kinds


def test_npz_is_standardised_by_its_training_part(tmp_path):
    X, y = table()
    X[:, 1] = 0.1  # constant
    data = load(save(tmp_path / "mine.npz", X=X, y=y))
    assert (data.name, data.classes, data.picture) == ("mine", ("0", "1"), None)
    assert len(data.X_test) == 10
    scaler = StandardScaler().fit(data.X_train)
    np.testing.assert_allclose(data.scaling.shift, scaler.mean_)
    np.testing.assert_allclose(data.scaling.factor, 1 / scaler.scale_)
    assert data.scaling.factor[1] == 1
    np.testing.assert_allclose(
        data.scaling(data.X_test, "float64"), scaler.transform(data.X_test), atol=1e-12
    )


def test_npz_with_its_own_test_part_is_not_split(tmp_path):
    X, y = table()
    data = load(save(tmp_path / "m.npz", X=X, y=y, X_test=X[:7] + 1, y_test=y[:7]))
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(data.X_test, X[:7] + 1)
    np.testing.assert_array_equal(data.y_test, y[:7])
    np.testing.assert_allclose(data.scaling.shift, X.mean(axis=0))


@pytest.mark.parametrize(
    ("X", "picture", "factor"),
    [
        (np.full((10, 4, 5), 51, np.uint8), (4, 5), 1 / 255),
        (np.full((10, 20), 51, np.uint8), None, 1 / 255),
        (np.full((10, 4, 5), 0.5), (4, 5), 2),
        (np.zeros((10, 4, 5), np.int32), (4, 5), 1),
    ],
)
def test_npz_pictures_and_bytes_have_one_factor(tmp_path, X, picture, factor):
    data = load(save(tmp_path / "m.npz", X=X, y=np.arange(10) % 2))
    assert data.picture == picture
    assert data.X_train.shape == (8, 20)
    assert data.scaling.shift.tolist() == [0]
    assert data.scaling.factor.tolist() == [factor]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "c"], ("a", "b", "c")),
        ([10, 9, -1], ("-1", "9", "10")),
        ([2.0, 10.0, 1.0], ("1", "2", "10")),
        ([[2], [10], [1]], ("1", "2", "10")),
        ([True, False, True], ("0", "1")),
    ],
)
def test_class_names_and_their_order(tmp_path, labels, classes):
    X, y = np.arange(30.0).reshape(30, 1), np.array(labels * 10)
    data = load(save(tmp_path / "m.npz", X=X, y=y))
    assert data.classes == classes
    names = [str(int(v)) if not isinstance(v, str) else v for v in y.ravel().tolist()]
    for row, index in zip(data.X_train, data.y_train, strict=True):
        assert classes[index] == names[int(row[0])]


def test_numeric_targets(tmp_path):
    X, _ = table()
    path = save(tmp_path / "m.npz", X=X, y=X[:, :2] * 3)
    data = load(path, numeric_targets=True)
    assert data.classes is None
    assert data.y_train.dtype == np.float64
    np.testing.assert_array_equal(data.y_train, data.X_train[:, :2] * 3)
    np.testing.assert_array_equal(data.y_test, data.X_test[:, :2] * 3)
    assert "--loss squared_error" in refusal(load, path)
    data = load(save(tmp_path / "one.npz", X=X, y=X[:, 0], X_test=X, y_test=X[:, 0]), numeric_targets=True)
    assert data.y_train.shape == data.y_test.shape == (50, 1)


def test_every_class_is_in_a_small_test_part(tmp_path):
    data = load(save(tmp_path / "m.npz", X=np.eye(10), y=np.arange(10) % 5))
    assert sorted(data.y_test) == list(range(5))


X2, Y2 = np.arange(12.0).reshape(6, 2), np.array([0, 1] * 3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": X2}, ["expected arrays X and y", "found X"]),
        ({"X": X2, "y": Y2[:5]}, ["as many rows in y as in X, 6", "found 5"]),
        ({"X": X2[:0], "y": Y2[:0]}, ["X has no rows"]),
        ({"X": X2[:, :0], "y": Y2}, ["X has no columns"]),
        ({"X": X2[:, 0], "y": Y2}, ["X", "(n, d)", "found (6,)"]),
        ({"X": X2, "y": np.zeros((6, 1, 1))}, ["y", "(n,)", "found (6, 1, 1)"]),
        ({"X": X2, "y": np.array(5)}, ["y", "(n,)", "found ()"]),
        ({"X": np.array([["a", "b"]] * 6), "y": Y2}, ["X", "expected numbers", "<U1"]),
        ({"X": X2, "y": Y2 * 1j}, ["y", "expected numbers or text", "complex128"]),
        ({"X": X2, "y": np.array([None, "a"] * 3)}, ["pickled objects are refused"]),
        ({"X": np.array([[None, {}]] * 6), "y": Y2}, ["pickled objects are refused"]),
        ({"X": np.where(X2 == 5, np.nan, X2), "y": Y2}, ["X: row 2, column 1 (counted from 0)", "found nan"]),
        ({"X": np.where(X2 == 4, -np.inf, X2), "y": Y2}, ["X: row 2, column 0", "found -inf"]),
        ({"X": np.where(X2 == 4, 1e39, X2), "y": Y2}, ["X: row 2, column 0", "float32", "found 1e+39"]),
        (
            {"X": np.where(X2 == 4, np.inf, X2).astype(np.float16), "y": Y2},
            ["X: row 2, column 0", "found inf"],
        ),
        ({"X": X2, "y": np.where(X2[:, 0] == 4, np.nan, 1)}, ["y: row 2", "found nan"]),
        ({"X": X2, "y": Y2 + 0.5}, ["whole numbers", "found 0.5", "--loss squared_error"]),
        ({"X": X2, "y": Y2 * 1e30}, ["whole numbers", "found 1e+30"]),
        ({"X": X2, "y": X2}, ["one label in each row", "found 2"]),
        ({"X": X2, "y": Y2 * 0}, ["at least two classes", "only '0'"]),
        ({"X": X2, "y": np.array([0, 0, 0, 1, 1, 2])}, ["found 1 of class '2'", "--loss squared_error"]),
        ({"X": X2, "y": Y2, "X_test": X2}, ["X_test and y_test together"]),
        ({"X": X2, "y": Y2, "X_test": X2[:, :1], "y_test": Y2}, ["X_test", "(2,)", "found (1,)"]),
        ({"X": X2, "y": Y2, "X_test": X2, "y_test": Y2 + 1}, ["y_test: row 1", "found '2'"]),
        ({"X": X2, "y": Y2, "X_test": X2[:0], "y_test": Y2[:0]}, ["X_test has no rows"]),
        ({"X": X2, "y": Y2, "X_test": X2 * [[np.nan]], "y_test": Y2}, ["X_test: row 0", "found nan"]),
    ],
)
def test_bad_npz(tmp_path, arrays, said):
    message = refusal(load, save(tmp_path / "bad.npz", **arrays))
    assert all(part in message for part in ["bad.npz", *said]), message


def test_text_labels_cannot_be_numeric_targets(tmp_path):
    message = refusal(load, save(tmp_path / "t.npz", X=X2, y=np.array(["a", "b"] * 3)), numeric_targets=True)
    assert "found text ('a')" in message
    assert "cross-entropy" in message


def test_one_row_cannot_be_split(tmp_path):
    path = save(tmp_path / "t.npz", X=X2[:1], y=Y2[:1])
    assert "at least 2 rows" in refusal(load, path, numeric_targets=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-30],
        lambda whole: whole[:20],
        lambda whole: b"",
        lambda whole: b"junk" * 9,
        lambda whole: whole.replace(b"(6, 2)", b"(6, 2("),
        lambda whole: whole.replace(X2.tobytes(), Y2.tobytes() * 2),
    ],
    ids=["tail", "head", "empty", "junk", "shape", "values"],
)
def test_broken_npz(tmp_path, damage):
    path = save(tmp_path / "broken.npz", X=X2, y=Y2)
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(load, path)
    assert "broken.npz" in message
    assert "expected" in message
    assert "allow_pickle" not in message


# Names


def test_unknown_names():
    message = refusal(load, "mnst")
    assert "Did you mean 'mnist'?" in message
    assert all(name in message for name in NAMES)


def test_unknown_files(tmp_path):
    assert refusal(load, tmp_path / "gone.csv") == f"{tmp_path / 'gone.csv'}: no such file"
    message = refusal(load, write(tmp_path / "table.xls", ""))
    assert ".csv, .mat, .npz, .tsv" in message
    assert "found '.xls'" in message
    assert "found 'no ending'" in refusal(load, tmp_path)


def test_importing_costs_no_heavy_library():
    heavy = {"sklearn", "scipy", "tqdm", "matplotlib", "PIL", "urllib.request"}
    code = f"import sys, xpnet.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
