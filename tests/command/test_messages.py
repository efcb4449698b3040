"""What the command line says: the nearest valid name, one usage line, information, counts and times."""

import csv
import io
import json
import logging
import re
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from xpnet.backends import resolve
from xpnet.command.cli import main
from xpnet.command.formats import format_count, format_percent
from xpnet.command.options import Options
from xpnet.data.loading import load
from xpnet.errors import find_nearest
from xpnet.training.checkpoint import load_state, save_state


@pytest.fixture
def small(here):
    """A table in `small.npz` with 54 training rows; its test rows spare the import of scikit-learn."""
    y = np.arange(60) % 3
    X = np.eye(3)[y] + 0.0
    np.savez(here / "small.npz", X=X, y=y, X_test=X, y_test=y)


def files(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    }


# Mistyped, or called so elsewhere: what was typed, the message


MISTAKES = {
    "--device gpu": "unknown device 'gpu'. Did you mean 'cuda'? Choose from auto, cpu, cuda, cuda:N",
    "--device GPU:0": "unknown device 'GPU'. Did you mean 'cuda'? Choose from",
    "--backend torch --device gpu": "unknown device 'gpu'. Did you mean 'cuda'? Choose from",
    "--loss mse": "unknown loss 'mse'. Did you mean 'squared_error'? Choose from softmax_cross_entropy, ",
    "--loss mae": "unknown loss 'mae'. Did you mean 'absolute_error'? Choose from",
    "--loss cross-entropy": "unknown loss 'cross-entropy'. Did you mean 'softmax_cross_entropy'? Choose from",
    "--loss BCE": "unknown loss 'BCE'. Did you mean 'logistic_cross_entropy'? Choose from",
    "--activation sigmoid": "unknown activation 'sigmoid'. Did you mean 'logistic'? Choose from",
    "--activation linear": "unknown activation 'linear'. Did you mean 'identity'? Choose from",
    "--activation softmax": "unknown activation 'softmax'. Choose from identity, ",  # not softplus
    "--init xavier": "unknown initial distribution 'xavier'. Did you mean 'glorot_uniform'? Choose from",
    "--dtype half": "unknown dtype 'half'. Did you mean 'float32'? Choose from float32, float64",
    "--dtype double": "unknown dtype 'double'. Did you mean 'float64'? Choose from float32, float64",
    "--optimizer Adam": "unknown optimizer 'Adam'. Did you mean 'adam'? Choose from",
    "--recipe mnist": "unknown recipe 'mnist'. Did you mean 'mnist-fast'? Choose from",
    "--epoch 5": "unknown option '--epoch'. Did you mean '--epochs'?",
    "--bath-size 5": "unknown option '--bath-size'. Did you mean '--batch-size'?",
    "--bath-size=5": "unknown option '--bath-size'. Did you mean '--batch-size'?",
    "--learning-rate 0.1": "unknown option '--learning-rate'. Did you mean '--lr'?",
    "--val 0.1": "unknown option '--val'. Did you mean '--validation'?",
    "--zzzzzz": "unknown option '--zzzzzz'",
    "digits": "unexpected argument 'digits'",
    "--epochs x": "--epochs: expected a whole number, got 'x'",
    "--epochs 1.5": "--epochs: expected a whole number, got '1.5'",
    "--lr fast": "--lr: expected a number, got 'fast'",
    "--epochs": "--epochs: expected one argument",
    "--hidden 0": "--hidden: expected numbers of units such as 800 or 800,800, or 'none', got '0'",
    "--momentum 0.5": "--momentum belongs to --optimizer momentum or nesterov, not to adam",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_gets_one_sentence_and_one_usage_line(train, options):
    # Without --device cpu, which the fixture gives.
    result = train(f"--device auto {options}")
    assert (result.status, result.out) == (2, "")
    error, usage, *rest = result.err.splitlines()
    assert error.startswith(f"error: {MISTAKES[options]}")
    assert usage == "usage: xpnet train [--help] [options]"
    assert not rest


COMMANDS = "train, predict, export, info"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], f"unknown command 'trian'. Did you mean 'train'? Choose from {COMMANDS}"),
        (["fit"], f"unknown command 'fit'. Choose from {COMMANDS}"),
        ([], f"expected a command: {COMMANDS}"),
        (["--verison"], "unknown option '--verison'. Did you mean '--version'?"),
        (["export", "m", "--out", "f"], "unknown option '--out'. Did you mean '--output'?"),
        (["predict"], "the following arguments are required: model, file"),
        (["predict", "m", "f", "--devise", "cpu"], "unknown option '--devise'. Did you mean '--device'?"),
        (["info", "cpu"], "unexpected argument 'cpu'"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    out, err = capsys.readouterr()
    error, usage = err.splitlines()
    assert (out, error) == ("", f"error: {message}")
    command = f"xpnet {words[0]}" if words and words[0] in COMMANDS.split(", ") else "xpnet"
    assert usage.startswith(f"usage: {command} [--help]")


@pytest.mark.parametrize(
    ("backend", "device", "only"),
    [("cupy", "cpu", "cuda"), ("numpy", "cuda", "cpu"), ("numpy", "cuda:1", "cpu")],
)
def test_a_backend_and_a_device_that_contradict_each_other(train, backend, device, only):
    result = train(f"--backend {backend} --device {device}")
    assert result.status == 2
    both = f"--backend {backend} and --device {device} contradict each other"
    assert f"error: {both}: {backend} computes only on {only}." in result.err


def test_the_nearest_name():
    assert find_nearest("Sigmoid", ["Logistic", "relu"]) == "Logistic"
    assert find_nearest("one", ["one_cycle", "cosine"]) == "one_cycle"
    assert find_nearest("co", ["constant", "cosine"]) is None  # stands for both
    assert find_nearest("anything", []) is None


# Information


def log_at(level):
    def logging_resolve(*arguments):
        logging.getLogger("xpnet").log(level, "computing on the CPU: %s", "no driver")
        return resolve(*arguments)

    return logging_resolve


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_the_reason_for_the_cpu_is_information(train, small, monkeypatch, level):
    logger = logging.getLogger("xpnet")
    before = logger.level, logger.propagate, list(logger.handlers)
    monkeypatch.setattr("xpnet.command.run.resolve_usable", log_at(level))
    result = train("--data small.npz --epochs 1 --out run")
    assert result.out.splitlines()[2] == "computing on the CPU: no driver"
    assert "driver" not in result.err
    assert train("--data small.npz --epochs 1 --out other --quiet") == (0, "", "")
    for wrong in ("--data nosuch", "--data nosuch.csv"):
        result = train(wrong)
        assert result.status == 2
        assert "driver" not in result.out + result.err
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_larger_batch_than_the_data_is_warned_of_even_when_quiet(train, small):
    result = train("--data small.npz --epochs 1 --batch-size 1000 --quiet")
    assert result.err == "warning: --batch-size 1000 exceeds the 54 training rows; using 54\n"
    assert result.out == ""


# Counts, percentages, times


def test_counts_have_a_singular(train, small):
    assert (format_count(0, "epoch"), format_count(12345, "step")) == ("0 epochs", "12,345 steps")
    result = train("--data small.npz --epochs 1 --batch-size full --out run")
    assert re.search(r"^1 epoch, 1 step: ", result.out, re.MULTILINE)


def test_percentages_have_two_decimals_or_all_they_need():
    assert [format_percent(share) for share in (1.0, 0.975, 0.70215)] == ["100.00 %", "97.50 %", "70.22 %"]
    exact = [format_percent(share, exact=True) for share in (1.0, 0.975, 0.70215)]
    assert exact == ["100.00 %", "97.50 %", "70.215 %"]


def test_the_total_time_is_what_the_user_waited(train, small, monkeypatch):
    def slow_load(*arguments, **settings):
        time.sleep(0.3)
        return load(*arguments, **settings)

    def slow_pictures(*_):
        time.sleep(0.3)

    monkeypatch.setattr("xpnet.command.run.load", slow_load)
    monkeypatch.setattr("xpnet.command.report.find_spec", lambda name: True)
    monkeypatch.setattr("xpnet.command.report._save_pictures", slow_pictures)
    began = time.monotonic()
    result = train("--data small.npz --epochs 1 --out run")
    waited = time.monotonic() - began
    trained, total = map(float, re.search(r": (\S+) s of training, (\S+) s in total\n", result.out).groups())
    assert trained < 0.3
    assert 0.6 <= total <= waited + 0.05


def test_results_say_where_they_are_and_how_to_use_them(train, small):
    result = train("--data small.npz --epochs 1 --out run")
    *_, saved, hint, command = result.out.splitlines()
    assert (saved, hint, command) == (
        "Results saved in run",
        "To classify your own files:",
        "  xpnet predict run FILE...",
    )
    result = train("--data small.npz --loss squared_error --epochs 1 --out numbers")
    assert "To predict from your own files:\n" in result.out


# A run that is finished


@pytest.mark.parametrize(
    ("options", "reached", "more"),
    [
        ("--epochs 1", "1 epoch", "--epochs 2"),
        ("--epochs 3", "3 epochs", "--epochs 6"),
        ("--epochs 0", "0 epochs", "--epochs 1"),
        ("--epochs 500 --lr 0.5 --patience 2", r"\d+ epochs", "--patience 4"),
    ],
)
def test_a_finished_run_says_so_and_how_to_train_on(train, small, here, options, reached, more):
    assert train(f"--data small.npz --out run {options}").status == 0
    before = files(here)
    result = train("--resume run")
    assert (result.status, result.err) == (0, "")
    said = re.fullmatch(
        f"The run in run is finished after {reached}. To train on:\n  xpnet train (.+)\n", result.out
    )
    assert said[1] == f"--resume run {more}"
    assert train("--resume run --quiet") == (0, "", "")
    assert files(here) == before

    n_records = len((here / "run" / "history.jsonl").read_text().splitlines())
    result = train(said[1])
    assert result.status == 0
    assert "Results saved in run\n" in result.out
    assert len((here / "run" / "history.jsonl").read_text().splitlines()) > n_records


def test_a_run_without_its_results_is_not_finished(train, small, here):
    # Killed after its last epoch; the metrics of the earlier end are still there.
    assert train("--data small.npz --out run --epochs 2").status == 0
    model, metrics = here / "run" / "model.safetensors", here / "run" / "metrics.json"
    earlier = metrics.read_text()
    assert train("--resume run --epochs 4").status == 0
    metrics.write_text(earlier)
    assert "Results saved" in train("--resume run").out
    model.unlink()
    assert "Results saved" in train("--resume run").out
    assert model.exists()
    metrics.write_text("{")
    assert "Results saved" in train("--resume run").out


# --patience, once called --early-stopping


def test_early_stopping_is_another_name_for_patience(train, small, here):
    for out, option in (("one", "--patience"), ("two", "--early-stopping")):
        assert train(f"--data small.npz --epochs 500 --lr 0.5 --out {out} {option} 2").status == 0
    one, two = (len((here / out / "history.jsonl").read_text().splitlines()) for out in ("one", "two"))
    assert one == two < 500


def test_a_run_of_an_older_version_keeps_its_patience(train, small, here):
    assert train("--data small.npz --epochs 500 --lr 0.5 --out run --patience 2").status == 0
    path, backend = here / "run" / "checkpoint.safetensors", resolve("cpu")
    state, about = load_state(path, backend=backend)
    about["options"]["early_stopping"] = about["options"].pop("patience")
    del about["options"]["threads"]
    save_state(path, state, about, backend=backend)
    assert train("--resume run").out.endswith("--resume run --patience 4\n")


def test_an_older_recipe_keeps_its_patience(train, small, here):
    (here / "old.toml").write_text(
        "[options]\ndata = 'small.npz'\nlr = 0.5\nepochs = 500\nearly_stopping = 2"
    )
    assert train("--recipe old.toml --out run").status == 0
    assert len((here / "run" / "history.jsonl").read_text().splitlines()) < 500


def test_early_stopping_is_not_begun_in_a_run_without(train, small):
    assert train("--data small.npz --epochs 2 --out run").status == 0
    result = train("--resume run --epochs 4 --patience 2")
    assert result.status == 2
    assert "  --patience: the run has None, you gave 2\n" in result.err


def test_options_of_older_runs():
    assert Options.from_dict({"early_stopping": 3, "hidden": [5]}) == Options(patience=3, hidden=(5,))


# --threads


def count_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_threads_of_the_blas(train, small, monkeypatch):
    before, seen = count_threads(), []

    def watching_load(*arguments, **settings):
        seen.append(count_threads())
        return load(*arguments, **settings)

    monkeypatch.setattr("xpnet.command.run.load", watching_load)
    for n in (1, 2):
        assert train(f"--data small.npz --epochs 1 --threads {n}").status == 0
    assert seen == [{1}, {2}]
    assert count_threads() == before


def test_threads_of_another_library_are_refused(train, small):
    pytest.importorskip("array_api_strict")
    result = train("--data small.npz --threads 2 --backend array_api_strict")
    message = "error: --threads works with the backend numpy only, this run uses array_api_strict\n"
    assert (result.status, result.err) == (2, message)


def test_an_option_in_front_of_its_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", "train"])
    assert ended.value.code == 2
    assert re.match(r"error: --quiet belongs after the command: .* train --quiet\n", capsys.readouterr().err)


# Text from files


HOSTILE = "\x1b[2Jred\x9b31m\u202e\r\x00"


def test_control_characters_of_files_do_not_reach_the_terminal(here, capsys):
    names = [HOSTILE.replace("\x00", "") + "a", "b"]
    y = np.array(names)[np.arange(40) % 2]
    X = np.random.default_rng(0).normal(size=(40, 2))
    np.savez(here / "it.npz", X=X, y=y)
    np.savez(here / "other.npz", **{f"{HOSTILE[:4]}q": X, "y": y})
    np.save(here / "rows.npy", X[:3])
    (here / "it.toml").write_text(
        f"title = {json.dumps(HOSTILE)}\nnote = {json.dumps(HOSTILE)}\n"
        '[options]\ndata = "it.npz"\nepochs = 1\n[expected]\ntest_accuracy = { article = 0.5 }\n'
    )
    commands = [
        "train --recipe it.toml --out run",
        "predict run rows.npy",
        "predict run rows.npy --json",
        "train --data other.npz",
        "predict run other.npz",
        f"predict run {HOSTILE[:9]}.npy",
    ]
    for command in commands:
        main(
            [
                *command.replace("predict", "predict --top 2").split(" "),
                *(["--device", "cpu"] if "train" in command else []),
            ]
        )
        shown = "".join(capsys.readouterr())
        assert "\\u001b[2J" in shown
        assert not set(HOSTILE[0] + HOSTILE[7:8] + HOSTILE[11:]) & set(shown), command
        if "--json" in command:
            assert json.loads(shown.splitlines()[0])["classes"][0]["class"] in names


def test_a_table_for_a_program_has_the_names_as_they_are(here, capsys):
    names = ["\x1b[2Ja", "b"]
    np.savez(here / "it.npz", X=np.eye(2)[np.arange(40) % 2], y=np.array(names)[np.arange(40) % 2])
    np.save(here / "rows.npy", np.eye(2))
    assert (
        main(["train", "--data", "it.npz", "--device", "cpu", "--quiet", "--epochs", "1", "--out", "run"])
        == 0
    )
    capsys.readouterr()
    assert main(["predict", "run", "rows.npy", "--csv", "--top", "1"]) == 0
    found = [row["class_1"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert set(found) <= set(names)


def test_a_long_word_of_a_file_is_cut_short(here, capsys):
    (here / "it.csv").write_text("a,b\n1,2\n3," + "9" * 9000 + "\n")
    assert main(["train", "--data", "it.csv", "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err) < 1000
