"""`startup`: what is waited for before anything is learned: imports, and from `fit` to its first step."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from benchmarks import data, figures, tables
from benchmarks.contestants import Peer, chosen_peers
from benchmarks.timing import in_turns, ratio, summary
from xpnet import MLPClassifier

HELP = "time of the imports, from the call of fit to the first step, and of fitting a hundred rows"
IMPORTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import xpnet": "import xpnet",
    "xpnet's MLPClassifier": "from xpnet import MLPClassifier",
    "scikit-learn's MLPClassifier": "from sklearn.neural_network import MLPClassifier",
}
BARE, PACKAGE, OURS, THEIRS = (
    "python",
    "import xpnet",
    "xpnet's MLPClassifier",
    "scikit-learn's MLPClassifier",
)
FIT, CHECKS = "xpnet, from fit to the first step", "scikit-learn's checks of the data"
FEW = 100
# Milliseconds: `import xpnet` beyond bare Python, and from fit to the first step beyond the checks.
IMPORT_BAR, STEP_BAR = 80.0, 5.0
PEERS = {"scikit-learn": Peer("sklearn", ("cpu",), None)}


def add_arguments(parser):
    pass


def run(arguments):
    peers, left_out = chosen_peers(arguments.peers, "cpu", PEERS)
    with_peer = "scikit-learn" in peers
    pictures = data.pictures(arguments.data_dir)
    repeats = arguments.repeats or 15
    parts = {"imports": imports(repeats, with_peer)}
    for n in (FEW, len(pictures.X)):
        parts[f"first step, {n} rows"] = first_step(pictures.X[:n], pictures.y[:n], repeats)
    parts[f"fit, {FEW} rows"] = whole_fit(pictures.X[:FEW], pictures.y[:FEW], repeats, with_peer)
    return {
        "data": pictures.what,
        "device": "cpu",
        "repeats": repeats,
        "parts": {name: {"times": times, **measured(times)} for name, times in parts.items()},
        "bars": bars(parts),
        "skipped": left_out,
    }


def measured(times):
    """Return summaries of the milliseconds, and of the ratios of what is ours to each other, by round."""
    ours = next(name for name in times if name.startswith(("import xpnet", "xpnet")))
    return {
        "ours": ours,
        "milliseconds": {name: summary(values) for name, values in times.items()},
        "ratios": {name: ratio(times[ours], values) for name, values in times.items()},
    }


def imports(repeats, with_peer):
    """Return {what: milliseconds of a new interpreter that does it}."""
    folder = str(Path(__file__).parents[2])
    # The folder first, as if xpnet were installed; sys is there in any interpreter.
    head = f"import sys; sys.path.insert(0, {folder!r}); "

    def start(statement):
        return lambda: subprocess.run([sys.executable, "-c", head + statement], check=True)

    works = {what: start(code) for what, code in IMPORTS.items() if with_peer or what != THEIRS}
    return milliseconds(in_turns(works, repeats, warm_ups=1))


def milliseconds(seconds):
    return {name: [round(1e3 * t, 4) for t in times] for name, times in seconds.items()}


class _BegunError(Exception):
    """Raised where the first step would be taken."""


def first_step(X, y, repeats):
    """Return the milliseconds from calling `fit` to its first step, and of scikit-learn's checks alone."""
    from sklearn.neural_network import MLPClassifier as Theirs
    from sklearn.utils.validation import validate_data

    model, other = MLPClassifier(learning_rate=stop), Theirs()

    def fit():
        try:
            model.fit(X, y)
        except _BegunError:
            return
        raise AssertionError("fit has not asked for a learning rate")

    def checks():
        validate_data(
            other, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32)
        )

    return milliseconds(in_turns({FIT: fit, CHECKS: checks}, repeats))


def stop(t):
    """Be the learning rate of a fit that ends before its first step."""
    raise _BegunError


def whole_fit(X, y, repeats, with_peer):
    """Return {library: milliseconds of a fit with the defaults}: 200 epochs of one batch."""
    kinds = {"xpnet": MLPClassifier}
    if with_peer:
        from sklearn.neural_network import MLPClassifier as Theirs

        kinds["scikit-learn"] = Theirs

    def fit(kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            kind(random_state=0).fit(X, y)

    works = {name: lambda kind=kind: fit(kind) for name, kind in kinds.items()}
    return milliseconds(in_turns(works, repeats))


def bars(parts):
    """Return the bars of the issue with what was measured: medians of the differences by round."""
    found = [bar("import xpnet beyond bare Python, ms", parts["imports"], PACKAGE, BARE, IMPORT_BAR)]
    for name, times in parts.items():
        if name.startswith("first step"):
            found.append(bar(f"{name}: beyond the checks, ms", times, FIT, CHECKS, STEP_BAR))
        if name.startswith("fit") and "scikit-learn" in times:
            value = ratio(times["xpnet"], times["scikit-learn"])["median"]
            found.append(verdict(f"{name}: xpnet / scikit-learn", value, None, 1.0))
    return found


def bar(name, times, ours, other, limit):
    differences = np.subtract(times[ours], times[other])
    best = min(times[ours]) - min(times[other])
    return verdict(name, float(np.median(differences)), float(best), limit)


def verdict(name, value, best, limit):
    return {
        "name": name,
        "measured": value,
        "best": best,
        "bar": limit,
        "met": bool(round(value, 2) <= limit),
    }


def table(result):
    lines = [
        f"Milliseconds, {result['repeats']} rounds, {result['data']}, device {result['device']}. "
        "Ratio: xpnet / it, in the same round."
    ]
    for name, part in result["parts"].items():
        lines += ["", f"### {name}", ""]
        lines += ["| | ms, median | quartiles | best | ratio | quartiles |", "|---|--:|--:|--:|--:|--:|"]
        for what, times in part["milliseconds"].items():
            lines.append(f"| {what} | {tables.cells(times, part['ratios'][what], '.2f')} |")
    lines += ["", "| | median | of the best | bar | |", "|---|--:|--:|--:|---|"]
    for each in result["bars"]:
        best = "-" if each["best"] is None else f"{each['best']:.2f}"
        words = "met" if each["met"] else "missed"
        lines.append(f"| {each['name']} | {each['measured']:.2f} | {best} | <= {each['bar']:.2f} | {words} |")
    return "\n".join(lines) + "\n"


def draw(result, path):
    """Draw the milliseconds of each part."""
    panels = {name: part["milliseconds"] for name, part in result["parts"].items()}
    figures.milliseconds(panels, "what is waited for, in ms: median and quartiles", path)
