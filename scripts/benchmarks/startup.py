"""`startup`: the start-up time: imports, and from calling `fit` to its first step."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from benchmarks import data, figures, tables
from benchmarks.peers import Peer, choose_peers
from benchmarks.timing import ratio, summary, time_in_turns
from xpnet import MLPClassifier

HELP = "time to import xpnet, from calling fit to the first step, and to fit 100 rows; on NumPy"
REPEATS_HELP = "number of timed rounds (default: 15)"
BARE, PACKAGE, OURS, THEIRS = (
    "python",
    "import xpnet",
    "xpnet's MLPClassifier",
    "scikit-learn's MLPClassifier",
)
IMPORTS = {
    BARE: "pass",
    "import numpy": "import numpy",
    PACKAGE: "import xpnet",
    OURS: "from xpnet import MLPClassifier",
    THEIRS: "from sklearn.neural_network import MLPClassifier",
}
FIT, CHECKS = "xpnet, from fit to the first step", "scikit-learn's data checks"
FEW = 100
# The most milliseconds allowed: `import xpnet` minus bare Python, and the first step minus the data checks.
# The largest ratio allowed: time of xpnet's fit / time of scikit-learn's.
IMPORT_BAR, STEP_BAR, FIT_BAR = 80.0, 5.0, 1.0
PEERS = {"scikit-learn": Peer("sklearn", ("cpu",), None)}


def add_arguments(parser):
    """Add nothing: this subcommand has no arguments of its own."""


def run(arguments):
    peers, skipped = choose_peers(arguments.peers, "cpu", PEERS)
    with_peer = "scikit-learn" in peers
    pictures = data.load_pictures(arguments.data_dir)
    repeats = arguments.repeats or 15
    parts = {"imports": time_imports(repeats, with_peer)}
    for n in (FEW, len(pictures.X)):
        name = f"first step, {tables.count(n, 'row')}"
        parts[name] = time_first_step(pictures.X[:n], pictures.y[:n], repeats)
    name = f"fit, {tables.count(FEW, 'row')}"
    parts[name] = time_fit(pictures.X[:FEW], pictures.y[:FEW], repeats, with_peer)
    return {
        "data": pictures.what,
        "device": "cpu",
        "repeats": repeats,
        "parts": {name: {"times": times, **summarize(times)} for name, times in parts.items()},
        "bars": make_bars(parts),
        "skipped": skipped,
    }


def summarize(times):
    """Return summaries of the milliseconds, and of xpnet's divided by the others' of the same round."""
    ours = next(name for name in times if name.startswith(("import xpnet", "xpnet")))
    return {
        "ours": ours,
        "milliseconds": {name: summary(values) for name, values in times.items()},
        "ratios": {name: ratio(times[ours], values) for name, values in times.items()},
    }


def time_imports(repeats, with_peer):
    """Return {name: milliseconds of a new interpreter that runs the import}."""
    folder = str(Path(__file__).parents[2])
    # First on the path, the clone is found as fast as an installed package. `sys` is already loaded.
    head = f"import sys; sys.path.insert(0, {folder!r}); "

    def start(statement):
        return lambda: subprocess.run([sys.executable, "-c", head + statement], check=True)

    works = {name: start(code) for name, code in IMPORTS.items() if with_peer or name != THEIRS}
    return in_milliseconds(time_in_turns(works, repeats, warm_ups=1))


def in_milliseconds(seconds):
    return {name: [round(1e3 * t, 4) for t in times] for name, times in seconds.items()}


class _FirstStepError(Exception):
    """Raised in place of the first step."""


def time_first_step(X, y, repeats):
    """Return the milliseconds from calling `fit` to its first step, and those of the data checks alone."""
    from sklearn.neural_network import MLPClassifier as Theirs
    from sklearn.utils.validation import validate_data

    model, other = MLPClassifier(learning_rate=stop), Theirs()

    def fit():
        try:
            model.fit(X, y)
        except _FirstStepError:
            return
        raise AssertionError("fit has not asked for a learning rate")

    def check():
        validate_data(
            other, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32)
        )

    return in_milliseconds(time_in_turns({FIT: fit, CHECKS: check}, repeats))


def stop(t):
    """Be a learning rate schedule that ends `fit` before its first step."""
    raise _FirstStepError


def time_fit(X, y, repeats, with_peer):
    """Return {library: milliseconds of a fit with default parameters}: 200 epochs of one batch."""
    kinds = {"xpnet": MLPClassifier}
    if with_peer:
        from sklearn.neural_network import MLPClassifier as Theirs

        kinds["scikit-learn"] = Theirs

    def fit(kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            kind(random_state=0).fit(X, y)

    works = {name: lambda kind=kind: fit(kind) for name, kind in kinds.items()}
    return in_milliseconds(time_in_turns(works, repeats))


def make_bars(parts):
    """Return the bars, for medians of differences and of ratios within the same round."""

    def difference(times, ours, other):
        return float(np.median(np.subtract(times[ours], times[other])))

    imports = difference(parts["imports"], PACKAGE, BARE)
    found = [tables.make_bar("import xpnet, minus bare Python (ms)", imports, IMPORT_BAR)]
    for name, times in parts.items():
        if FIT in times:
            value = difference(times, FIT, CHECKS)
            found.append(tables.make_bar(f"{name}, minus the data checks (ms)", value, STEP_BAR))
        if "scikit-learn" in times:
            value = ratio(times["xpnet"], times["scikit-learn"])["median"]
            found.append(tables.make_bar(f"{name}, xpnet / scikit-learn", value, FIT_BAR))
    return found


def format_tables(result):
    """Return a table for each part, followed by the bars of all."""
    lines = [
        f"Start-up time, {tables.count(result['repeats'], 'round')}, {result['data']}, "
        f"device {result['device']}.",
        "The ratio is the time of xpnet divided by that of the row.",
    ]
    for name, part in result["parts"].items():
        rows = [
            [what, *tables.cells(times, part["ratios"][what], ",.2f")]
            for what, times in part["milliseconds"].items()
        ]
        lines += ["", f"### {name}", ""]
        lines += tables.table(["", "median (ms)", *tables.SPREAD], "lrrrrr", rows)
    return "\n".join([*lines, *tables.bar_table(result["bars"])]) + "\n"


def draw(result, path):
    """Draw the milliseconds of each part."""
    panels = {name: part["milliseconds"] for name, part in result["parts"].items()}
    figures.draw_milliseconds(panels, "Start-up time (ms), median and quartiles", path)
