"""Damaged and crafted files of every kind that the command line reads.

Each is a mutation of a good file. A process of its own reads it with `xpnet.command.cli.main`, so that a crash, a
hang or too much memory is found, too. `pytest --fuzz 20000` runs that many mutations instead of 300; to repeat
one: `python tests/test_fuzz.py FOLDER NUMBER`.
"""

import contextlib
import csv
import gzip
import io
import json
import math
import os
import random
import re
import shutil
import signal
import string
import struct
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

MEMORY = 1 << 30  # bytes of address space that reading one small file may take
SECONDS = 20
SEED = 14

# What each kind of file is given to. FILE stands for the mutated file, and OUT for a new folder.
TRAIN = "train --device cpu --backend numpy --epochs 1 --hidden 3 --quiet --out OUT"
RESUME = "train --device cpu --backend numpy --epochs 3 --quiet --resume FOLDER"
COMMANDS = {
    "npz": [f"{TRAIN} --data FILE", "predict table FILE"],
    "npy": ["predict table FILE"],
    "mat": [f"{TRAIN} --data FILE"],
    "csv": [f"{TRAIN} --data FILE", "predict columns FILE"],
    "tsv": [f"{TRAIN} --data FILE --loss squared_error --test 0.3", "predict columns FILE --json"],
    "idx": [f"{TRAIN} --data mnist --data-dir FOLDER"],
    "png": ["predict pictures FILE"],
    "jpg": ["predict pictures FILE --csv"],
    "tif": ["predict pictures FILE"],
    "webp": ["predict pictures FILE"],
    "gif": ["predict pictures FILE"],
    "bmp": ["predict pictures FILE"],
    "model": ["predict FILE rows.npy", "predict FILE rows.csv"],
    "checkpoint": [RESUME, "predict FILE rows.npy"],
    "estimator": ["predict FILE rows.npy"],
    "history": [RESUME],
    "metrics": [RESUME],
    "recipe": ["train --device cpu --backend numpy --recipe FILE --epochs 1 --quiet --out OUT"],
}
NUMBERS = [-1, 0, 1, 2, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**64 - 1]
VALUES = [
    *(None, True, False, 10**30, -(10**400), 0.5, 1e308, -1e-308, math.nan, math.inf, "", "x", "nan", "./.."),
    *("\x1b[2J", "a\nb", "\ud800", "\x9b31m", "\0", "é" * 500, "relu", "1", "<U9999999", "O", "float16"),
    *(
        [],
        {},
        [[]],
        [1],
        [0.5, 2],
        ["a"],
        {"a": 1},
        {"tuple": 1},
        [[1e300] * 4] * 2,
        json.loads("[" * 60 + "]" * 60),
    ),
    *NUMBERS,
]
WORDS = [
    *(
        "nan",
        "inf",
        "-1",
        "1e999",
        "9" * 400,
        "0x" + "f" * 5000,
        "",
        '"',
        "'",
        "\0",
        "\x1b[31m",
        "\x9b",
        "\n",
        "\r",
    ),
    *(
        ",",
        ";",
        "\t",
        "[" * 3000,
        "{" * 300,
        "]",
        "=",
        "null",
        "true",
        "é",
        "\ufeff",
        "\u202e",
        "1_000",
        "1,5",
    ),
    *(
        "[options]",
        "[[",
        "decimals = 1000000000",
        "epochs = 0",
        "data = '/dev/zero'",
        "hidden = [1]",
        "\\ud800",
    ),
]


def make_files(folder):
    """Write a good file of each kind, and the models that predict from them."""
    from PIL import Image
    from scipy.io import savemat

    from xpnet import MLPRegressor
    from xpnet.command.cli import main

    rng = np.random.default_rng(SEED)
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
        'title = "A recipe"\nnote = "Its note"\n[options]\ndata = "good.npz"\nhidden = [3]\nactivation = ["tanh"]\n'
        'lr = 0.1\noptimizer = "momentum"\nmomentum = 0.5\nschedule = "constant"\n[printed]\nevery = 2\n'
        "decimals = 3\nlines = [[0.2, 30.0], [0.1, 40]]\n[expected]\ntest_accuracy = { article = 0.9, at_least = 0.1 }\n"
    )
    for name, data in (("table", "good.npz"), ("columns", "good.csv"), ("pictures", "pictures.npz")):
        more = ["--optimizer", "adam", "--patience", "5", "--validation", "0.2"] if name == "table" else []
        options = TRAIN.replace("--epochs 1", "--epochs 2").replace("OUT", name).split()
        assert main([*options, "--data", data, *more]) == 0
    with warnings.catch_warnings(action="ignore"):  # of too few iterations
        MLPRegressor("quantile", hidden_layer_sizes=(3,), max_iter=2).fit(X, y).save(
            folder / "estimator.safetensors"
        )


# Mutations: of bytes, of text, of JSON, and of what is inside a container.


def mutate_bytes(rng, data, n_header=64):
    """Return bytes with one to four changes, half of them at the start, where most formats have their sizes."""
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
            magic = rng.choice(
                [b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x1f\x8b", b"\x89PNG\r\n\x1a\n", b"MATLAB 5", b"\0\0"]
            )
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


def mutate_tensors(rng, source, path):
    """Write a model or a checkpoint that somebody has edited, with a right checksum."""
    from xpnet.training.files import read, write

    if rng.random() < 0.25:
        path.write_bytes(mutate_bytes(rng, source.read_bytes(), 2000))
        return
    kinds = {"xpnet model": ("1", "2"), "xpnet checkpoint": ("1",)}
    kind, version, tensors, about = read(source, kinds)
    if rng.random() < 0.8:
        about = mutate_json(rng, about)
    else:
        name = rng.choice(list(tensors))
        tensor = tensors[name]
        changed = [
            tensor[..., :1],
            tensor.astype("f2"),
            tensor.astype("f8"),
            tensor.astype("i4"),
            tensor * np.nan,
        ]
        changed += [
            tensor.reshape(-1),
            tensor[None],
            tensor * 1e38,
            np.empty((0, 2**40), "f4"),
            tensor[:0] if tensor.ndim else tensor,
        ]
        with np.errstate(all="ignore"):
            tensors[name] = rng.choice(changed)
        if rng.random() < 0.3:
            tensors[rng.choice(["x", "moments.7", "best.theta", "layers.9.weight"])] = tensors.pop(name)
    if rng.random() < 0.05:
        kind, version = rng.choice(
            [("xpnet estimator", "1"), ("xpnet model", "1"), ("\x1b[2J", "1"), (kind, "\x1b")]
        )
    write(path, kind, version, tensors, about)


def prepare(rng, kind, home, place):
    """Write a mutated file to the folder `place`, and return the words that its command knows."""
    ending = {"history": "jsonl", "metrics": "json", "recipe": "toml"}.get(kind, kind)
    mutate = {"npz": mutate_npz, "npy": mutate_npy, "mat": mutate_mat, "png": mutate_png}.get(
        kind, mutate_bytes
    )
    file = place / f"it.{ending}"
    if kind in ("checkpoint", "history", "metrics"):
        shutil.copytree(home / "table", place / "run")
        file = (
            place
            / "run"
            / {"checkpoint": "checkpoint.safetensors", "history": "history.jsonl"}.get(kind, "metrics.json")
        )
    if kind == "idx":
        shutil.copytree(home / "mnist", place / "mnist")
        file = rng.choice(sorted((place / "mnist").iterdir()))
        file.write_bytes(mutate_gzip(rng, file.read_bytes()))
    elif kind in ("model", "checkpoint", "estimator"):
        model = home / rng.choice(["table", "columns"]) / "model.safetensors"
        source = {"checkpoint": file, "estimator": home / "estimator.safetensors"}.get(kind, model)
        mutate_tensors(rng, source, file)
    elif kind in ("history", "metrics", "recipe", "csv", "tsv"):
        good = home / f"good.{ending}" if kind in ("recipe", "csv", "tsv") else file
        data = good.read_bytes()
        file.write_bytes(mutate_text(rng, data.decode()) if rng.random() < 0.7 else mutate_bytes(rng, data))
    else:
        good = [path for path in (home / f"good.{ending}", home / f"other.{ending}") if path.exists()]
        file.write_bytes(mutate(rng, rng.choice(good).read_bytes()))
    return {"FILE": file, "FOLDER": file.parent, "OUT": place / "out"}


def run(number, home):
    """Return the kind of a mutated file, the command, and what came of it: accepted, refused, or a finding."""
    from xpnet.command.cli import main

    rng = random.Random(f"{SEED} {number}")
    kind = list(COMMANDS)[number % len(COMMANDS)]
    place = home / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    names = prepare(rng, kind, home, place)
    command = [str(names.get(word, word)) for word in rng.choice(COMMANDS[kind]).split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        try:
            status = main(command)
        except SystemExit as end:
            status = end.code
        except BaseException:
            return kind, command, traceback.format_exc()
    return kind, command, judge(status, out.getvalue(), err.getvalue())


def judge(status, out, err):
    """Return "accepted" or "refused", or what is wrong with an outcome."""
    if re.search(
        r"[^\n\r -~\xa0-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff\t]", out + err
    ):
        return f"control characters: {out + err!r:.500}"
    if re.search(r"Traceback|Warning:|out of memory", err):
        return f"{err:.2000}"
    if status == 0:
        return (
            f"not a number: {out:.300}"
            if re.search(r"\b(nan|inf)\b", re.sub(r"\S*/\S*", "", out))
            else "accepted"
        )
    if (
        status not in (1, 2, 130)
        or not re.search(r"^error: \S.{10}|They differ", err, re.MULTILINE)
        or len(err) > 3000
    ):
        return f"status {status}: {err:.2000}"
    return "refused"


def work(home, first, last):
    """Run the mutations of these numbers, and print one line of JSON after and a number before each."""
    import resource

    import PIL.Image  # noqa: F401
    import scipy.ndimage  # noqa: F401

    from xpnet.command.cli import main

    sys.modules["matplotlib"] = None
    report, sys.stdout = sys.stdout, io.StringIO()
    os.chdir(home)
    with contextlib.redirect_stderr(io.StringIO()):
        main(["predict", "pictures", "good.png"])  # imports what needs memory
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    for number in range(first, last):
        print(json.dumps(number), file=report, flush=True)
        signal.alarm(SECONDS)  # ends the process
        print(json.dumps(run(number, home)), file=report, flush=True)
        signal.alarm(0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit of a process's memory")
def test_damaged_files_are_refused(tmp_path, monkeypatch, pytestconfig, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    pytest.importorskip("PIL")
    make_files(tmp_path)
    n, number, counts, findings = pytestconfig.getoption("fuzz"), 0, Counter(), []
    began = time.monotonic()
    while number < n:
        with open("stderr.txt", "w+") as err:
            command = [sys.executable, __file__, str(tmp_path), str(number), str(n)]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
            worker = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=err, text=True, env=environment, check=False
            )
            err.seek(0)
            printed = err.read()
        lines = [json.loads(line) for line in worker.stdout.splitlines()]
        assert lines, printed
        outcomes = [line for line in lines if isinstance(line, list)]
        counts.update(
            (kind, outcome if outcome in ("accepted", "refused") else "finding")
            for kind, _, outcome in outcomes
        )
        starts = [line for line in lines if isinstance(line, int)]
        number = starts[-1] + 1
        findings += [
            (i, *outcome)
            for i, outcome in zip(starts, outcomes, strict=False)
            if outcome[2] not in ("accepted", "refused")
        ]
        if worker.returncode or printed:
            findings.append(
                (number - 1, f"the process ended with {worker.returncode} and printed {printed[-3000:]!r}")
            )
    capfd.readouterr()
    with capfd.disabled():
        if n > 300:
            print(f"\n{n:,} mutations in {time.monotonic() - began:.0f} s")
            for kind in COMMANDS:
                print(
                    f"{kind:<12}"
                    + "".join(
                        f"{counts[kind, what]:>8,} {what}" for what in ("accepted", "refused", "finding")
                    )
                )
    assert not findings, f"{len(findings)} findings, of seed {SEED}:\n" + "\n".join(map(str, findings[:40]))
    for kind in COMMANDS:
        assert counts[kind, "refused"] > 0


if __name__ == "__main__":
    home, first, *last = sys.argv[1:]
    work(Path(home), int(first), int(last[0]) if last else int(first) + 1)
