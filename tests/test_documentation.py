"""What README and the pages of the site show is run. The build of the site runs the gallery."""

import doctest
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet.command.cli import main

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text("utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# What a Python example contains that needs more than the page: each has a test of its own.
SPECIAL = ("import cupy", "runs/", "SCIPY_ARRAY_API")

# What an example or a command contains that needs an optional library.
OPTIONAL = {"import torch": "torch", "import jax": "jax", "onnx": "onnx"}


def read_blocks(page, language):
    return [block for found, block in FENCE.findall(PAGES[page]) if found == language]


def is_special(example):
    return any(words in example for words in SPECIAL)


def skip_unless_installed(text):
    for words, library in OPTIONAL.items():
        if words in text:
            pytest.importorskip(library)


def find_example(words):
    (example,) = (code for page in PAGES for code in read_blocks(page, "python") if words in code)
    return example


def run(example, namespace):
    """Run an example. Where it is typed at a prompt, compare what it shows."""
    if ">>>" not in example:
        exec(compile(example, "example", "exec"), namespace)
        return
    test = doctest.DocTestParser().get_doctest(example, namespace, "example", None, None)
    shown = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.DocTestRunner(verbose=False, optionflags=options).run(
        test, out=shown.append, clear_globs=False
    )
    namespace |= test.globs
    assert not failed, "".join(shown)


@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(page, "python")])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_python_examples_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = [example for example in read_blocks(page, "python") if not is_special(example)]
    skip_unless_installed("".join(examples))
    namespace = {}
    for example in examples:
        run(example, namespace)
    if page == "README.md":
        model, X, y = (namespace[name] for name in ("model", "X", "y"))
        start, end, score = re.search(
            r"tensor\(\[(.*?), \.\.\., (.*?)\]\), on the device of X\n.*# (.*)", PAGES[page]
        ).groups()
        predicted = model.predict(X[1500:]).tolist()
        assert (predicted[:3], predicted[-3:]) == (eval(f"[{start}]"), eval(f"[{end}]"))
        assert model.score(X[1500:], y[1500:]) == pytest.approx(float(score), abs=0.005)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_example_with_cupy_runs_with_numpy_in_its_place():
    stand_in = SimpleNamespace(random=np.random, float32=np.float32, asnumpy=np.asarray)
    namespace = {"cupy": stand_in}
    run(find_example("import cupy").replace("import cupy\n", ""), namespace)
    assert namespace["model"].predict(namespace["X"]).shape == (10_000,)
    assert namespace["model"].coefs_[0].dtype == np.float32


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_example_with_cupy_answers_in_cupy(cupy_backend):
    namespace = {}
    run(find_example("import cupy"), namespace)
    assert isinstance(namespace["model"].coefs_[0], np.ndarray)


def test_the_example_that_keeps_tensors_in_a_pipeline_does():
    example = find_example("SCIPY_ARRAY_API")  # which SciPy reads when it is imported
    skip_unless_installed(example)
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", example], capture_output=True, text=True)
    assert ended.stdout.split() == [re.search(r"print\(.*\)  # (\w+)", example)[1]], ended.stderr


def test_the_example_that_loads_a_run(train, here):
    example = find_example('load("runs/')
    name = re.search(r'load\("(runs/[^"]*)"\)', example)[1]
    assert train(f"--out {name} --quiet").status == 0
    namespace = {}
    run(example, namespace)
    assert namespace["model"].predict(namespace["X"][:3]).tolist() == [0, 1, 2]
    assert namespace["model"].score(namespace["X"], namespace["y"]) > 0.98


def test_the_library_example_trains_a_network(capsys):
    namespace = {}
    run(find_example("n_epochs=30"), namespace)
    *_, last_epoch, _ = capsys.readouterr().out.splitlines()
    assert last_epoch.startswith("30 ")
    result = xpnet.evaluate(
        namespace["mlp"],
        namespace["state"].theta,
        namespace["X_test"],
        namespace["Y_test"],
        backend=namespace["backend"],
    )
    assert result.score > 0.96


COMMANDS = sorted({line for page in PAGES for block in read_blocks(page, "") for line in block.splitlines()})
RUN_HERE = ("python scripts/train.py", "python scripts/predict.py", "python -m xpnet")
RUN_BY_CI = ("pip install", "ruff")
RUN_BY_TESTS = ("python scripts/gpu_check.py", "python scripts/benchmark.py", "OMP_NUM_THREADS=1")


@pytest.fixture
def files(here):
    """Write the files that the commands name."""
    Image = pytest.importorskip("PIL.Image")
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 12:16] = 255
    for name in ("seven.png", "scan.jpg"):
        Image.fromarray(digit).save(here / name)
    rng = np.random.default_rng(0)
    for name, columns in (("rows.csv", [*map(str, range(64))]), ("measurements.csv", ["a", "price", "b"])):
        rows = rng.uniform(0, 16, (40, len(columns)))
        np.savetxt(here / name, rows, delimiter=",", header=",".join(columns), comments="")


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith(RUN_HERE)])
def test_each_command_runs(line, files, train, capsys):
    """For one epoch, on the CPU, and on scikit-learn's digits in place of MNIST."""
    skip_unless_installed(line)
    name, options = re.fullmatch(r"python (?:-m xpnet|scripts)[ /](\w+)(?:\.py)?(.*)", line).groups()
    for folder in re.findall(r"runs/\S+", options):
        assert train(f"--epochs 1 --quiet --out {folder}").status == 0
    if name == "train":
        if "--resume" not in options:
            options += " --epochs 1" if ".csv" in options else " --epochs 1 --data digits"
        result = train(options.replace("--device cuda", ""))
        assert result.status == 0, result.err
    else:
        assert main([name, *options.split()]) == 0, capsys.readouterr().err


def test_the_other_commands_are_run_elsewhere():
    assert all(line.startswith(RUN_HERE + RUN_BY_CI + RUN_BY_TESTS) for line in COMMANDS), COMMANDS


def test_each_equation_names_a_function_that_exists():
    named = re.findall(r"`(ops|losses|optimizers|mlp|layout)\.((?!py)\w+)", PAGES["mathematics.md"])
    assert len(named) > 20
    for module, name in named:
        assert hasattr(__import__(f"xpnet.maths.{module}", fromlist=[name]), name), f"{module}.{name}"


def test_each_option_named_exists(capsys):
    known = ""
    for command in ("train", "predict"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known += capsys.readouterr().out
    elsewhere = {"--check", "--fuzz", "--help", "--kill"}  # of ruff; of pytest here; of any command
    pages = "".join(text for page, text in PAGES.items() if page not in ("benchmarks.md", "changelog.md"))
    for option in set(re.findall(r"--[a-z][a-z-]+", pages)) - elsewhere:
        assert option in known, option


def test_each_link_leads_to_a_file_and_a_heading():
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else ROOT / "docs"
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
            path = folder / target
            assert path.exists(), (page, target)
            if heading:
                headings = re.findall(r"^#+ (.*)", path.read_text("utf-8"), flags=re.MULTILINE)
                assert heading in {
                    re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings
                }


def test_what_is_to_be_found_is_there():
    package = Path(xpnet.__file__).parent
    rows = re.search(r"\| to find \| open \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGES["design.md"])[
        1
    ].splitlines()
    assert len(rows) == 13
    for row in rows:
        named = re.findall(r"`([^`]+)`", row.split("|")[2])
        files = [package / name for name in named if "/" in name]
        assert files, row
        assert all(file.exists() for file in files), row
        text = "".join(file.read_text("utf-8") for file in files if file.is_file())
        for name in named:
            if "/" not in name:
                assert name.rpartition(".")[2].removeprefix("f_") in text, (name, row)
