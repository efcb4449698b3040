"""Damaged and crafted files of every kind that the command line reads.

Each is a mutation of a good file. A process of its own reads it with `xpnet.command.cli.main`, so that a
crash, a hang or too much memory is found, too. `pytest --fuzz 20000` reads that many files instead of 300.
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import pytest
from mutations import MUTATE, make_files, mutate_bytes

MEMORY = 1 << 30  # bytes of address space that reading one small file may take
SECONDS = 20
SEED = 14

# What each kind of file is given to. FILE stands for the mutated file, FOLDER for its folder, OUT for a new
# one, and ROWS for rows that its model can predict from.
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
    "model": ["predict FILE ROWS"],
    "checkpoint": [RESUME, "predict FILE ROWS"],
    "history": [RESUME],
    "metrics": [RESUME],
    "recipe": ["train --device cpu --backend numpy --recipe FILE --epochs 1 --quiet --out OUT"],
}
# Where not good.KIND: the good files of that kind.
GOOD = {
    "npz": ["good.npz", "other.npz"],
    "mat": ["good.mat", "other.mat"],
    "idx": [f"mnist/{name}" for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte")],
    "png": ["good.png", "other.png"],
    "tif": ["good.tif", "other.tif"],
    "model": ["table/model.safetensors", "columns/model.safetensors", "estimator.safetensors"],
    "checkpoint": ["table/checkpoint.safetensors"],
    "history": ["table/history.jsonl"],
    "metrics": ["table/metrics.json"],
    "recipe": ["good.toml"],
}


def prepare(rng, kind, place, *, is_good):
    """Write a mutated file to the folder `place`, and return the words that its command knows."""
    source = Path(rng.choice(GOOD.get(kind, [f"good.{kind}"])))
    file = place / source.name
    if source.parent.name:
        shutil.copytree(source.parent, place, dirs_exist_ok=True)
    data = source.read_bytes()
    file.write_bytes(data if is_good else MUTATE.get(kind, mutate_bytes)(rng, data))
    rows = "rows.csv" if source.parent.name == "columns" else "rows.npy"
    return {"FILE": file, "FOLDER": place, "OUT": place / "out", "ROWS": rows}


def run(number, home):
    """Return the kind of a mutated file, and what came of it: accepted, refused, or what is wrong."""
    from xpnet.command.cli import main

    rng = random.Random(f"{SEED} {number}")
    kind = list(COMMANDS)[number % len(COMMANDS)]
    is_good = number < len(COMMANDS)  # the first of each kind, to see that it is accepted
    place = home / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    names = prepare(rng, kind, place, is_good=is_good)
    command = [str(names.get(word, word)) for word in rng.choice(COMMANDS[kind]).split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("always")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as for a user
        try:
            status = main(command)
        except SystemExit as end:
            status = end.code
        except BaseException:
            return kind, f"{command}: {traceback.format_exc()}"
    outcome = judge(status, out.getvalue(), err.getvalue())
    if outcome not in EXPECTED[: 1 if is_good else 2]:
        shown = f"{status}, stdout {out.getvalue()!r:.300}, stderr {err.getvalue()!r:.2000}"
        outcome = f"{command}: {outcome}, status {shown}"
    return kind, outcome


EXPECTED = ["accepted", "refused"]
SHOWN = re.compile(r"[\n -~\xa0-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff]*")


def judge(status, out, err):
    """Return "accepted" or "refused", or what is wrong with an outcome."""
    if not SHOWN.fullmatch(out + err):
        return "characters that control a terminal"
    if re.search(r"Traceback|Warning:|out of memory", err):
        return "a leak"
    if status == 0:
        is_sane = not re.search(r"\b(nan|inf)\b", out)
        return "accepted" if is_sane else "a prediction that is no number"
    is_clear = len(err) < 3000 and re.search(r"^error: \S.{10}|^They differ", err, re.MULTILINE)
    return "refused" if status in (1, 2) and is_clear else "no clear message"


def work(home, first, end):
    """Read the files of these numbers. Print for each a line of JSON before, and one after."""
    import resource

    from xpnet.command.cli import main

    sys.modules["matplotlib"] = None
    report, sys.stdout = sys.stdout, io.StringIO()
    os.chdir(home)
    main(["predict", "pictures", "good.png"])  # imports what needs memory
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    for number in range(first, end):
        print(number, file=report, flush=True)
        signal.alarm(SECONDS)  # ends the process
        print(json.dumps(run(number, home)), file=report, flush=True)
        signal.alarm(0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit of a process's memory")
def test_damaged_files_are_refused(tmp_path, monkeypatch, pytestconfig, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    make_files(tmp_path)
    n, number = pytestconfig.getoption("fuzz"), 0
    counts, findings = Counter(), []
    while number < n:
        command = [sys.executable, __file__, str(tmp_path), str(number), str(n)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        worker = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        for line in worker.stdout.splitlines():
            match json.loads(line):
                case int(number):
                    pass
                case kind, outcome:
                    counts[kind, outcome if outcome in EXPECTED else "findings"] += 1
                    findings += [] if outcome in EXPECTED else [f"{number}: {outcome}"]
        if worker.returncode or worker.stderr:
            findings.append(f"{number}: the process ended with {worker.returncode}: {worker.stderr[-2000:]}")
        number += 1
    with capfd.disabled():
        for kind in COMMANDS if n > 300 else ():
            print(
                f"\n{kind:<12}",
                *(f"{counts[kind, what]:>8,} {what}" for what in [*EXPECTED, "findings"]),
                end="",
            )
    assert not findings, f"{len(findings)} findings:\n" + "\n".join(findings[:40])
    # Whatever the last two contain, they are written anew.
    assert all(counts[kind, "refused"] for kind in COMMANDS if kind not in ("metrics", "history"))


if __name__ == "__main__":
    work(Path(sys.argv[1]), *map(int, sys.argv[2:]))
