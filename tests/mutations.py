"""Good files of every kind that the command line reads, and mutations of them for `test_fuzz`."""

import csv
import gzip
import io
import json
import math
import re
import shutil
import string
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

NUMBERS = [-1, 0, 1, 2, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**64 - 1]
VALUES = [
    *(None, True, False, 10**30, -(10**400), 0.5, 1e308, -1e-308, math.nan, math.inf, "", "x", "nan", "./.."),
    *("\x1b[2J", "a\nb", "\ud800", "\x9b31m", "\0", "é" * 500, "relu", "1", "<U9999999", "O", "float16"),
    *([], {}, [[]], [1], [0.5, 2], ["a"], {"a": 1}, {"tuple": 1}, [[1e300] * 4] * 2, [[[[[[]]]]]], *NUMBERS),
]
WORDS = [
    *[
        "nan",
        "inf",
        "-1",
        "1e999",
        '"',
        "'",
        ",",
        ";",
        "[[",
        "]",
        "=",
        "null",
        "true",
        "é",
        "1_000",
        "1,5",
        "[options]",
        "\\ud800",
        "hidden=[1]",
        "epochs=0",
    ],
    *("", "\0", "\x1b[31m", "\x9b", "\n", "\r", "\t", "\ufeff", "\u202e", "9" * 400, "0x" + "f" * 5000),
    *("[" * 3000, "{" * 300, "decimals = 1000000000", "data = '/dev/zero'"),
]
MAGIC = [b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n", b"MATLAB 5", b"\0\0"]


def make_files(folder):
    """Write a good file of each kind, and the models that predict from them."""
    from PIL import Image
    from scipy.io import savemat

    from xpnet import MLPRegressor
    from xpnet.command.cli import main

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    np.savez(folder / "good.npz", X=X, y=y)
    np.savez_compressed(
        folder / "other.npz", X=X.astype("f4"), y=np.array(["a", "bé"])[y % 2], X_test=X, y_test=y
    )
    np.save(folder / "good.npy", X)
    np.save(folder / "rows.npy", X[:2])
    savemat(folder / "good.mat", {"X": X, "y": y})
    savemat(folder / "other.mat", {"X": X, "y": np.array(["a", "b"])[y % 2]}, do_compression=True)
    for name, separator in (("good.csv", ","), ("good.tsv", "\t")):
        with open(folder / name, "w", newline="") as file:
            table = csv.writer(file, delimiter=separator)
            table.writerow(["age", "sex", "fare", "size", "class"])
            for i, row in enumerate(X.round(3).tolist()):
                table.writerow([row[0], "mf"[i % 2], row[1] if i % 7 else "", row[2], i % 3])
    shutil.copy(folder / "good.csv", folder / "rows.csv")
    (folder / "mnist").mkdir()
    for part, n in (("train", 20), ("t10k", 10)):
        pixels = rng.integers(0, 256, n * 784, dtype=np.uint8).tobytes()
        images = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + pixels
        labels = struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(i % 10 for i in range(n))
        (folder / "mnist" / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (folder / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ink = np.full((24, 20), 250, dtype=np.uint8)
    ink[4:20, 8:11] = 10
    for ending in ("png", "jpg", "tif", "webp", "gif", "bmp"):
        mode = {"png": "RGBA", "tif": "L", "gif": "P"}.get(ending, "RGB")
        Image.fromarray(ink).convert(mode).save(folder / f"good.{ending}")
    Image.fromarray(ink.astype(np.uint16) * 256).save(folder / "other.png")
    Image.fromarray(ink).save(folder / "other.tif", compression="tiff_lzw")
    np.savez(
        folder / "pictures.npz",
        X=np.tile(ink[:8, :8], (12, 1, 1)) * np.arange(12, dtype=np.uint8)[:, None, None],
        y=y[:12],
    )
    (folder / "good.toml").write_text(
        'title = "A recipe"\nnote = "Its note"\n[options]\ndata = "good.npz"\nhidden = [3]\n'
        'activation = ["tanh"]\nlr = 0.1\noptimizer = "momentum"\nmomentum = 0.5\nschedule = "constant"\n'
        "[printed]\nevery = 2\n"
        "decimals = 3\nlines = [[0.2, 30.0], [0.1, 40]]\n[expected]\n"
        "test_accuracy = { article = 0.9, at_least = 0.1 }\n"
    )
    for name, data in (("table", "good.npz"), ("columns", "good.csv"), ("pictures", "pictures.npz")):
        more = ["--optimizer", "adam", "--patience", "5", "--validation", "0.2"] if name == "table" else []
        options = f"train --device cpu --backend numpy --epochs 2 --hidden 3 --quiet --out {name}".split()
        assert main([*options, "--data", data, *more]) == 0
    with warnings.catch_warnings(action="ignore"):  # of too few iterations
        MLPRegressor("quantile", hidden_layer_sizes=(3,), max_iter=2).fit(X, y).save(
            folder / "estimator.safetensors"
        )


# Mutations: of bytes, of text, of JSON, and of what is inside a container.


def mutate_bytes(rng, data, n_header=64):
    """Return bytes with one to four changes, half of them at the start, where most formats have sizes."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        n = len(data)
        at = rng.randrange(max(1, min(n, n_header) if rng.random() < 0.5 else n))
        other, length = rng.randrange(n + 1), rng.choice([1, 2, 4, 16, 200])
        kind = rng.randrange(8)
        if kind == 0 and n:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(length)
        elif kind == 3:
            data[other:other] = data[at : at + length]
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            size, order = rng.choice([1, 2, 4, 8]), rng.choice(["little", "big"])
            data[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, order)
        elif kind == 6:
            magic = rng.choice(MAGIC)
            data[: len(magic)] = magic
        else:
            data[at : at + length] = rng.choice([b"\0", b"\xff", b"[", b"9"]) * length
    return bytes(data)


def mutate_text(rng, text):
    """Return text with one to four words inserted, removed, replaced, or repeated."""
    parts = re.split(r"(\W)", text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(parts))
        word = rng.choice([*WORDS, str(rng.choice(NUMBERS)), rng.choice(parts), rng.choice(string.printable)])
        kind = rng.randrange(4)
        if kind == 0:
            parts.insert(at, word)
        elif kind == 1:
            del parts[at : at + rng.choice([1, 2, 20])]
        elif kind == 2:
            parts[at] = word
        else:
            parts[at] *= rng.choice([2, 3, 300])
        parts = parts or [""]
    return "".join(parts).encode("utf-8", "surrogatepass")


def mutate_json(rng, tree):
    """Return JSON-serializable data with one to three values replaced, removed or added."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        node, steps = tree, rng.randrange(1, 6)
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if steps > 1 and isinstance(node[key], dict | list) and node[key]:
                node, steps = node[key], steps - 1
                continue
            kind = rng.randrange(8)
            if kind == 0:
                del node[key]
            elif kind == 1 and isinstance(node, list):
                node.extend(node[:3])
            elif kind == 1:
                node[rng.choice(["x", "", "predict", "__class__"])] = rng.choice(VALUES)
            elif kind == 2 and isinstance(node[key], int | float):
                node[key] = node[key] * rng.choice([-1, 2, 1e3, 0.5]) if abs(node[key]) < 1e300 else 0
            else:
                node[key] = rng.choice(VALUES)
            break
    return tree


def mutate_npy(rng, data):
    """Return a file of NumPy's format with another header, or other bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, 128)
    header = {"descr": repr("<f8"), "fortran_order": "False", "shape": "(30, 4)"}
    descr = [
        "'|O'",
        "'<U9'",
        "'<U0'",
        "'>f4'",
        "'<f2'",
        "'<c16'",
        "'<M8[s]'",
        "'V8'",
        "[('a', '<f8')]",
        "('<f8', (2,))",
        "'?'",
        "'<i9'",
        "None",
    ]
    shapes = [
        "(-1,)",
        f"({10**30},)",
        f"(0, {2**63})",
        "(120,)",
        "(4, 30)",
        "()",
        "30",
        "(True, 4)",
        f"({2**31}, {2**31}, {2**31})",
        "(30, 4, 1)",
        "(1,)*70",
    ]
    changes = {"descr": descr, "shape": shapes, "fortran_order": ["True", "1", "None"]}
    for key in rng.sample(list(header), rng.choice([1, 1, 2])):
        header[key] = rng.choice([*changes[key], "(" * 500, "1if 1else 0", "0x", "10l", "''", "\xe9"])
    text = "{" + ", ".join(f"'{key}': {value}" for key, value in header.items()) + ", }"
    text = text.encode("latin-1").ljust(117) + b"\n"
    version, size = rng.choice([(b"\x01\0", "<H"), (b"\x02\0", "<I"), (b"\x03\0", "<I")])
    body = rng.choice([data[128:], data[128:-8], b"", rng.randbytes(960)])
    return b"\x93NUMPY" + version + struct.pack(size, len(text)) + text + body


def mutate_npz(rng, data):
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, len(data))
    out = io.BytesIO()
    method = rng.choice(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
    )
    with (
        zipfile.ZipFile(io.BytesIO(data)) as archive,
        zipfile.ZipFile(out, "w", method) as changed,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of names that are there twice
        victim = rng.choice(archive.namelist())
        for name in archive.namelist():
            content = archive.read(name)
            if name == victim:
                content = rng.choice([b"hello", b"", bytes(1 << 24), *[mutate_npy(rng, content)] * 6])
                name = rng.choice([name] * 6 + ["y.npy", "x", "\x1b[2J.npy"])
            changed.writestr(name, content)
    return out.getvalue()


def mutate_mat(rng, data):
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, 300)
    kind, size = struct.unpack_from("<II", data, 128)
    inside = zlib.decompress(data[136 : 136 + size]) if kind == 15 else data[128 : 136 + size]
    inside = inside[:8] + mutate_bytes(rng, inside[8:])
    if rng.random() < 0.7:  # the size of the matrix is right again
        inside = struct.pack("<II", 14, len(inside) - 8) + inside[8:]
    packed = zlib.compress(rng.choice([inside, inside, inside + bytes(1 << 24)]))
    element = struct.pack("<II", 15, len(packed)) + packed if rng.random() < 0.6 else inside
    return data[:128] + element + data[136 + size :]


def mutate_gzip(rng, data):
    if data[:2] != b"\x1f\x8b":
        return mutate_bytes(rng, data, 16)
    if rng.random() < 0.3:
        return mutate_bytes(rng, data, 16)
    inside = mutate_bytes(rng, gzip.decompress(data), 16)
    return gzip.compress(rng.choice([inside, inside, inside[:16] + bytes(1 << 26)]), 1)


def mutate_png(rng, data):
    """Return a PNG with changed chunks, whose checksums are right."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, data, 64)
    chunks, at = [], 8
    while at < len(data):
        (n,) = struct.unpack_from(">I", data, at)
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + n]])
        at += n + 12
    chunk = rng.choice(chunks[:2])
    chunk[1] = mutate_bytes(rng, chunk[1])
    if rng.random() < 0.2:
        sides = rng.choice([(1, 1), (5000, 5000), (60000, 20000), (2**31 - 1, 1), (6000, 1)])
        chunks[0][1] = struct.pack(">II", *sides) + chunks[0][1][8:]
        chunks[1][1] = zlib.compress(bytes(1 << 22))
    if rng.random() < 0.2:
        chunks.insert(
            1, [rng.choice([b"zTXt", b"iCCP", b"tRNS", b"eXIf", b"acTL", b"PLTE"]), rng.randbytes(40)]
        )
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def mutate_tensors(rng, data):
    """Return a model or a checkpoint that somebody has edited, with a right checksum."""
    from xpnet.training.files import read, write

    if rng.random() < 0.25:
        return mutate_bytes(rng, data, 2000)
    path = Path("crafted.safetensors")
    path.write_bytes(data)
    kind, version, tensors, about = read(path, {"xpnet model": ("2",), "xpnet checkpoint": ("1",)})
    if rng.random() < 0.8:
        about = mutate_json(rng, about)
    else:
        name = rng.choice(list(tensors))
        x = tensors[name]
        with np.errstate(all="ignore"):
            shapes = [
                x.reshape(-1),
                x[None],
                x.reshape(-1)[:-1],
                np.empty((0, 2**40), "f4"),
                x.reshape(-1)[:0],
            ]
            tensors[name] = rng.choice(
                [*(x.astype(dtype) for dtype in ("f2", "f8", "i4")), x * np.nan, x * 1e38, *shapes]
            )
        if rng.random() < 0.3:
            tensors[rng.choice(["x", "moments.7", "best.theta", "layers.9.weight"])] = tensors.pop(name)
    if rng.random() < 0.05:
        others = [("xpnet estimator", "1"), ("xpnet model", "1"), ("\x1b[2J", "1"), (kind, "\x1b")]
        kind, version = rng.choice(others)
    write(path, kind, version, tensors, about)
    return path.read_bytes()


def mutate_some_text(rng, data):
    return mutate_text(rng, data.decode()) if rng.random() < 0.7 else mutate_bytes(rng, data)


MUTATE = {
    **{"npz": mutate_npz, "npy": mutate_npy, "mat": mutate_mat, "idx": mutate_gzip, "png": mutate_png},
    **dict.fromkeys(("model", "checkpoint"), mutate_tensors),
    **dict.fromkeys(("csv", "tsv", "history", "metrics", "recipe"), mutate_some_text),
}
