"""`predict`: rows per second of predict_proba for 1, 100 and 10,000 rows, and the memory it takes.

All have the same parameters, those of an MLPClassifier trained a moment, and must answer the same. The memory
is how far the process grows beyond what it holds before the call, measured in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import data, figures, tables
from benchmarks.contestants import Peer, chosen_peers
from benchmarks.timing import in_turns, ratio, summary
from xpnet import MLPClassifier

HELP = "rows per second and peak memory of predict_proba, beside scikit-learn, PyTorch and onnxruntime"
TOLERANCE = 1e-3
HIDDEN = ((100,), (800,))
ROWS = (1, 100, 10_000)
SECONDS = 0.02  # a measurement takes at least this long
US = "xpnet (numpy)"
# xpnet takes at most this much of the time of these.
BAR, BAR_PEERS = 1.0, ("scikit-learn", "torch-eager")


def add_arguments(parser):
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes a minute")


def ours(coefs, intercepts):
    return estimator(MLPClassifier, coefs, intercepts)


def scikit_learn(coefs, intercepts):
    from sklearn.neural_network import MLPClassifier as Theirs

    return estimator(Theirs, coefs, intercepts)


def estimator(kind, coefs, intercepts):
    """Return predict_proba of an estimator that has been fitted on a few rows, with these parameters."""
    n_classes = len(intercepts[-1])
    X = np.zeros((n_classes, len(coefs[0])), dtype=np.float32)
    model = kind([W.shape[1] for W in coefs[:-1]], max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, np.arange(n_classes))
    model.coefs_, model.intercepts_ = list(coefs), list(intercepts)
    return model.predict_proba


def torch_eager(coefs, intercepts):
    import torch

    layers = []
    with torch.no_grad():
        for W, b in zip(coefs, intercepts, strict=True):
            linear = torch.nn.Linear(*W.shape)
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b.copy()))
            layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1]).eval()

    def predict_proba(X):
        with torch.no_grad():
            return torch.softmax(network(torch.from_numpy(X)), dim=1).numpy()

    return predict_proba


def onnx(coefs, intercepts):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, last = [], [], len(coefs) - 1
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        constants += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"W{i}", f"b{i}"], [f"z{i}"]))
        function = ("Softmax", {"axis": 1}) if i == last else ("Relu", {})
        nodes.append(helper.make_node(function[0], [f"z{i}"], [f"h{i + 1}"], **function[1]))
    ends = [
        [helper.make_tensor_value_info(f"h{i}", TensorProto.FLOAT, ["n", width])]
        for i, width in ((0, len(coefs[0])), (last + 1, len(intercepts[-1])))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "mlp", *ends, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda X: session.run(None, {"h0": X})[0]


PEERS = {
    "scikit-learn": Peer("sklearn", ("cpu",), scikit_learn),
    "torch-eager": Peer("torch", ("cpu",), torch_eager),
    "onnxruntime": Peer("onnxruntime", ("cpu",), onnx),
}
MAKERS = {US: ours, **{name: peer.make for name, peer in PEERS.items()}}


def run(arguments):
    peers, left_out = chosen_peers(arguments.peers, "cpu", PEERS)
    if "onnxruntime" in peers and find_spec("onnx") is None:
        del peers["onnxruntime"]
        left_out["onnxruntime"] = "onnx, which writes the network for it, is not installed"
    if any(backend.name != "numpy" for backend in arguments.backends):
        left_out["xpnet on other libraries, and GPUs"] = "measured on NumPy only"
    pictures = data.pictures(arguments.data_dir)
    names = [US, *peers]
    networks = [measure(hidden, names, pictures, arguments) for hidden in HIDDEN]
    disqualified = [
        f"{found['name']} on {result['network']}: {found['disqualified']}"
        for result in networks
        for found in result["cases"][0]["contestants"]
        if found["disqualified"]
    ]
    if not arguments.no_memory and not can_reset_the_peak():
        left_out["memory"] = "only Linux tells the peak of a call"
    return {
        "data": pictures.what,
        "device": "cpu",
        "networks": networks,
        "skipped": left_out,
        "disqualified": disqualified,
    }


def measure(hidden, names, pictures, arguments):
    """Train a network a moment and let all predict with it."""
    model = MLPClassifier(hidden, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(pictures.X[:6000], pictures.y[:6000])
    predicts = {name: MAKERS[name](model.coefs_, model.intercepts_) for name in names}
    wrong = check(predicts, pictures.X_test[:1000])
    counts = arguments.repeats or 15
    memory = {}
    if not arguments.no_memory and can_reset_the_peak():
        memory = {name: memory_of(name, model, pictures.X_test) for name in names}
    cases = []
    for n in ROWS:
        seconds = timed(predicts, np.ascontiguousarray(pictures.X_test[:n]), counts)
        cases.append({"rows": n, "contestants": []})
        for name, times in seconds.items():
            found = {
                "name": name,
                "microseconds": summary([1e6 * t for t in times]),
                "rows_per_second": float(n / np.median(times)),
                "ratio": ratio(seconds[US], times),
                "megabytes": memory.get(name, {}).get(str(n)),
                "disqualified": wrong[name],
            }
            cases[-1]["contestants"].append(found)
        cases[-1]["bars"] = bars(cases[-1]["contestants"])
    sizes = (pictures.X.shape[1], *hidden, 10)
    return {"network": "-".join(map(str, sizes)), "repeats": counts, "cases": cases}


def check(predicts, X):
    """Return, for each contestant, what disqualifies it, if anything: another answer than a plain one."""
    expected = predicts[US](X)
    differences = {name: float(np.abs(predict(X) - expected).max()) for name, predict in predicts.items()}
    return {
        name: None if d <= TOLERANCE else f"its probabilities differ by {d:.1e}, more than {TOLERANCE:g}"
        for name, d in differences.items()
    }


def timed(predicts, X, repeats):
    """Return {name: [seconds a call, ...]}; a measurement is as many calls as take SECONDS."""
    works, calls = {}, {}
    for name, predict in predicts.items():
        predict(X)
        began = time.perf_counter()
        predict(X)
        calls[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
        works[name] = lambda predict=predict, n=calls[name]: [predict(X) for _ in range(n)] and None
    return {name: [t / calls[name] for t in times] for name, times in in_turns(works, repeats).items()}


def bars(found):
    return [
        {
            "peer": each["name"],
            "bar": BAR,
            "ratio": each["ratio"]["median"],
            "met": bool(round(each["ratio"]["median"], 2) <= BAR),
        }
        for each in found
        if each["name"] in BAR_PEERS and not each["disqualified"]
    ]


def can_reset_the_peak():
    return Path("/proc/self/clear_refs").exists()


def memory_of(name, model, X):
    """Return {rows: megabytes}: by how much the peak of a new process rises in a call."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        arrays = {f"W{i}": W for i, W in enumerate(model.coefs_)}
        arrays |= {f"b{i}": b for i, b in enumerate(model.intercepts_)}
        np.savez(file, X=X, **arrays)
        code = "import sys; sys.path[:0] = sys.argv[1:3]; from benchmarks.predict import peaks; peaks()"
        folders = [str(Path(__file__).parents[depth]) for depth in (1, 2)]
        words = [sys.executable, "-c", code, *folders, name, str(file)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peaks():
    """Print the megabytes by which the peak of this process rises in a call, smaller calls first."""
    name, file = sys.argv[3:5]
    arrays = np.load(file)
    n_layers = len(arrays.files) // 2
    coefs, intercepts = ([arrays[f"{key}{i}"] for i in range(n_layers)] for key in "Wb")
    X, predict = arrays["X"], MAKERS[name](coefs, intercepts)
    predict(X[:1])
    found = {}
    for n in ROWS:
        rows = X[:n]
        before = reset_peak()
        predict(rows)
        found[n] = max(0.0, memory("VmHWM") - before)
    print(json.dumps(found))


def reset_peak():
    """Set the peak of this process to what it holds now, and return that."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory("VmRSS")


def memory(key):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = [line for line in lines if line.startswith(key)]
    return int(found.split()[1]) * 1024 / 1e6


def table(result):
    lines = [
        f"predict_proba, float32, {result['data']}, device {result['device']}. "
        f"Ratio: time of {US} / its, in the same round.",
        "Memory: by how much the peak of its process rises in the call.",
    ]
    for each in result["networks"]:
        for case in each["cases"]:
            title = f"### {each['network']}, {case['rows']:,} row{'s' * (case['rows'] > 1)}"
            lines += ["", title, ""]
            lines += [
                "| | rows/s | µs, median | quartiles | best | ratio | quartiles | MB |",
                "|---|--:|--:|--:|--:|--:|--:|--:|",
                *(row(found) for found in case["contestants"]),
            ]
            lines += tables.bars(case["bars"])
    return "\n".join(lines) + "\n"


def row(found):
    megabytes = "-" if found["megabytes"] is None else f"{found['megabytes']:.1f}"
    name = found["name"] + (": disqualified" if found["disqualified"] else "")
    cells = tables.cells(found["microseconds"], found["ratio"])
    return f"| {name} | {found['rows_per_second']:,.0f} | {cells} | {megabytes} |"


def draw(result, path):
    """Draw the time of each contestant in units of xpnet's, a panel for each network and number of rows."""
    panels = {}
    for case, network in ((case, each["network"]) for cases in by_rows(result) for case, each in cases):
        panels[f"{network}, {case['rows']:,} row{'s' * (case['rows'] > 1)}"] = [
            figures.bar(found, f"{found['rows_per_second']:,.0f} rows/s") for found in case["contestants"]
        ]
    figures.bars(panels, f"time of predict_proba, {US} = 1", path)


def by_rows(result):
    """Return the cases with their networks, those of one number of rows side by side."""
    return zip(*([(case, each) for case in each["cases"]] for each in result["networks"]), strict=True)
