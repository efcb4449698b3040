"""`predict`: rows per second of `predict_proba` for 1, 100 and 10,000 rows, and the memory that it takes.

All contestants have the parameters of the same MLPClassifier, trained for a moment, and have to return the
same probabilities. The memory is how far the peak of a process of its own rises during a call.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import data, figures, tables
from benchmarks.contestants import onnxruntime, scikit_learn, torch
from benchmarks.memory import can_measure_process, process_peak
from benchmarks.peers import Peer, choose_peers, list_disqualified
from benchmarks.timing import ratio, summary, time_in_turns
from xpnet import MLPClassifier

HELP = "rows per second and peak memory of predict_proba, compared with scikit-learn, PyTorch and onnxruntime"
REPEATS_HELP = "number of timed rounds (default: 15)"
# The largest difference between a contestant's probabilities and xpnet's.
TOLERANCE = 1e-3
HIDDEN = ((100,), (800,))
ROWS = (1, 100, 10_000)
SECONDS = 0.02  # the least duration of a measurement
XPNET = "xpnet (numpy)"
# The largest ratio allowed: time of xpnet / time of these.
BAR, BAR_PEERS = 1.0, ("scikit-learn", "torch-eager")

PEERS = {
    "scikit-learn": Peer("sklearn", ("cpu",), scikit_learn.predict_proba),
    "torch-eager": Peer("torch", ("cpu",), torch.predict_proba),
    "onnxruntime": Peer("onnxruntime", ("cpu",), onnxruntime.predict_proba),
}
# {name: (coefs, intercepts) -> predict_proba}
MAKERS = {
    XPNET: partial(scikit_learn.load, MLPClassifier),
    **{name: peer.make for name, peer in PEERS.items()},
}


def add_arguments(parser):
    parser.add_argument(
        "--no-memory", action="store_true", help="do not measure memory, which takes a minute"
    )


def run(arguments):
    peers, skipped = choose_peers(arguments.peers, "cpu", PEERS)
    if "onnxruntime" in peers and find_spec("onnx") is None:
        del peers["onnxruntime"]
        skipped["onnxruntime"] = "onnx, which builds its model, is not installed"
    if any(backend.name != "numpy" for backend in arguments.backends):
        skipped["xpnet on other libraries and on GPUs"] = "measured on NumPy only"
    pictures = data.load_pictures(arguments.data_dir)
    names = [XPNET, *peers]
    networks = [measure(hidden, names, pictures, arguments) for hidden in HIDDEN]
    if not arguments.no_memory and not can_measure_process():
        skipped["memory"] = "measured on Linux only"
    return {
        "data": pictures.what,
        "device": "cpu",
        "networks": networks,
        "skipped": skipped,
        "disqualified": [
            line
            for each in networks
            for line in list_disqualified(each["network"], each["cases"][0]["contestants"])
        ],
    }


def measure(hidden, names, pictures, arguments):
    """Train a network for a moment, then measure the predictions of all contestants."""
    model = MLPClassifier(hidden, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(pictures.X[:6000], pictures.y[:6000])
    predicts = {name: MAKERS[name](model.coefs_, model.intercepts_) for name in names}
    wrong = check_probabilities(predicts, pictures.X_test[:1000])
    repeats = arguments.repeats or 15
    memory = {}
    if not arguments.no_memory and can_measure_process():
        memory = {name: measure_memory(name, model, pictures.X_test) for name in names}
    cases = []
    for n in ROWS:
        seconds = time_predictions(predicts, np.ascontiguousarray(pictures.X_test[:n]), repeats)
        cases.append({"rows": n, "contestants": []})
        for name, times in seconds.items():
            found = {
                "name": name,
                "microseconds": summary([1e6 * t for t in times]),
                "rows_per_second": float(n / np.median(times)),
                "ratio": ratio(seconds[XPNET], times),
                "megabytes": memory.get(name, {}).get(str(n)),
                "disqualified": wrong[name],
            }
            cases[-1]["contestants"].append(found)
        cases[-1]["bars"] = make_bars(cases[-1]["contestants"])
    sizes = (pictures.X.shape[1], *hidden, 10)
    return {"network": "-".join(map(str, sizes)), "repeats": repeats, "cases": cases}


def check_probabilities(predicts, X):
    """Return for each contestant None, or why it is disqualified: its probabilities are not xpnet's."""
    expected = predicts[XPNET](X)
    differences = {name: float(np.abs(predict(X) - expected).max()) for name, predict in predicts.items()}
    return {
        name: None if d <= TOLERANCE else f"difference of its probabilities {d:.1e}, tolerance {TOLERANCE:g}"
        for name, d in differences.items()
    }


def time_predictions(predicts, X, repeats):
    """Return {name: [seconds per call, ...]}. A measurement is as many calls as take SECONDS."""
    works, calls = {}, {}
    for name, predict in predicts.items():
        predict(X)
        began = time.perf_counter()
        predict(X)
        calls[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
        works[name] = lambda predict=predict, n=calls[name]: [predict(X) for _ in range(n)] and None
    return {name: [t / calls[name] for t in times] for name, times in time_in_turns(works, repeats).items()}


def make_bars(found):
    return [
        tables.make_bar(f"xpnet / {each['name']}", each["ratio"]["median"], BAR)
        for each in found
        if each["name"] in BAR_PEERS and not each["disqualified"]
    ]


def measure_memory(name, model, X):
    """Return {rows: megabytes}: how far the peak of a new process rises during a call."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        arrays = {f"W{i}": W for i, W in enumerate(model.coefs_)}
        arrays |= {f"b{i}": b for i, b in enumerate(model.intercepts_)}
        np.savez(file, X=X, **arrays)
        code = (
            "import sys; sys.path[:0] = sys.argv[3:]\n"
            "from benchmarks.predict import print_peaks; print_peaks(*sys.argv[1:3])"
        )
        folders = [str(Path(__file__).parents[depth]) for depth in (1, 2)]  # scripts/ and the clone
        command = [sys.executable, "-c", code, name, str(file), *folders]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_peaks(name, file):
    """Print the megabytes by which the peak of this process rises during a call, for few rows first."""
    arrays = np.load(file)
    n_layers = len(arrays.files) // 2
    coefs, intercepts = ([arrays[f"{key}{i}"] for i in range(n_layers)] for key in "Wb")
    X, predict = arrays["X"], MAKERS[name](coefs, intercepts)
    predict(X[:1])
    print(json.dumps({n: process_peak(lambda rows=X[:n]: predict(rows)) for n in ROWS}))


def format_tables(result):
    """Return a table for each network and number of rows, followed by its bars."""
    lines = [
        f"predict_proba, float32, {result['data']}, device {result['device']}.",
        f"The ratio is the time of {XPNET} divided by the contestant's. "
        "MB is how far the peak memory of the process rises during the call.",
    ]
    for each in result["networks"]:
        for case in each["cases"]:
            lines += [
                "",
                f"### {each['network']}, {tables.count(case['rows'], 'row')}",
                "",
                *tables.table(
                    ["", "rows/s", "median (µs)", *tables.SPREAD, "MB"],
                    "lrrrrrrr",
                    [make_row(found) for found in case["contestants"]],
                ),
                *tables.bar_table(case["bars"]),
            ]
    return "\n".join(lines) + "\n"


def make_row(found):
    megabytes = "-" if found["megabytes"] is None else f"{found['megabytes']:.1f}"
    name = found["name"] + (" (disqualified)" if found["disqualified"] else "")
    times = tables.cells(found["microseconds"], found["ratio"])
    return [name, f"{found['rows_per_second']:,.0f}", *times, megabytes]


def draw(result, path):
    """Draw the time of each contestant relative to xpnet's, one panel per network and number of rows."""
    panels = {}
    for cases in zip(*(each["cases"] for each in result["networks"]), strict=True):
        for each, case in zip(result["networks"], cases, strict=True):
            panels[f"{each['network']}, {tables.count(case['rows'], 'row')}"] = [
                figures.make_bar(found, f"{found['rows_per_second']:,.0f} rows/s")
                for found in case["contestants"]
            ]
    figures.draw_relative(panels, "Time of predict_proba", XPNET, path)
