"""`scripts/gpu_check.py`: whatever happens to a check, it is reported, and the others are run."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from xpnet.backends.cuda import explain_missing_driver
from xpnet.command.cli import _parse


@pytest.fixture
def check(bench, tmp_path, capsys, monkeypatch):
    """The command with these checks, on a machine where CuPy passed the smoke test."""
    command, process = bench("checks.command"), bench("checks.process")
    monkeypatch.setattr(command, "run_smoke_tests", lambda report: ["cupy"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # without MNIST
    folder = tmp_path / "check"

    def check(*checks):
        monkeypatch.setattr(command, "plan", lambda *_: [process.Check(*each) for each in checks])
        status = command.main(["--out", str(folder), "--minutes", "1"])
        return status, capsys.readouterr().out, json.loads((folder / "report.json").read_text("utf-8"))

    return check


CRASH = "import ctypes; print('last words', flush=True); ctypes.string_at(0)"


def read_nothing(text):
    return {"lines": len(text.splitlines())}, "", None


def test_a_check_that_crashes_hangs_or_fails_stops_no_other(check):
    status, printed, report = check(
        ("job", "crash", ["-c", CRASH], read_nothing, 1),
        ("step", "hang", ["-c", "import time; time.sleep(60)"], read_nothing, 0.5),
        ("step", "failure", ["-c", "import sys; sys.exit(3)"], read_nothing, 1),
        ("step", "no result", ["-c", "print()"], json.loads, 1),
        ("tests", "fine", ["-c", "print(1)"], read_nothing, 40),
    )
    assert status == 1
    ends = {each["name"]: each["status"] for each in report["checks"]}
    assert ends == {
        "crash": "failed",
        "hang": "out of time",
        "failure": "failed",
        "no result": "failed",
        "fine": "passed",
    }
    assert report["failed"][0] == "job, crash: ended by SIGSEGV"
    assert re.fullmatch("step, hang: stopped after [1-3] s", report["failed"][1])
    assert report["failed"][2:] == [
        "step, failure: exit status 3",
        "step, no result: there are no results",
    ]
    assert all(f"FAILED: {line}" in printed for line in report["failed"])
    assert "    > last words" in printed
    assert report["checks"][-1]["figures"] == {"lines": 1}
    assert 1 <= report["checks"][1]["seconds"] < 10
    assert report["versions"]["numpy"]
    assert {"machine", "driver", "commit"} <= report.keys()


def test_all_checks_pass(check):
    code = "import warnings; warnings.warn('slow')"
    status, printed, report = check(("job", "cupy", ["-c", code], read_nothing, 1))
    assert (status, report["failed"]) == (0, [])
    assert "1 passed" in printed
    assert "UserWarning: slow" in printed


def test_without_mnist_the_recipes_are_skipped(check):
    status, printed, report = check(("recipes", "mnist-fast", ["-c", "raise"], read_nothing, 1))
    assert status == 0
    assert "1 skipped" in printed
    assert "--data-dir" in report["checks"][0]["summary"]


def test_processes_of_a_check_end_with_it(check, tmp_path):
    grandchild = f"import time; time.sleep(2.5); open({str(tmp_path / 'alive')!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    wait = "import time; time.sleep(2)"
    check(("tests", "cupy", ["-c", code], read_nothing, 1), ("tests", "wait", ["-c", wait], read_nothing, 80))
    assert not (tmp_path / "alive").exists()


@pytest.mark.skipif(explain_missing_driver() is None, reason="has a GPU")
def test_a_machine_without_gpu_is_told_so(bench, tmp_path, capsys):
    status = bench("checks.command").main(["--out", str(tmp_path / "check"), "--only", "smoke"])
    assert status == 2
    printed = capsys.readouterr().out
    assert printed.endswith("No library can use a GPU on this machine.\n")
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("smoke")] == [
        "cupy",
        "torch",
        "jax",
    ]


def test_a_gpu_is_named(cupy_backend, bench, tmp_path, capsys):
    status = bench("checks.command").main(["--out", str(tmp_path / "check"), "--only", "environment"])
    report = json.loads((tmp_path / "check" / "report.json").read_text("utf-8"))
    assert status == 0, capsys.readouterr().out
    smoke, environment = (each for each in report["checks"] if each["name"] == "cupy")
    assert smoke["figures"]["hardware"] == report["machine"]["gpu"] == cupy_backend.hardware
    assert "CUDA Runtime Version" in environment["figures"]["text"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "smoke,jobs"], "Did you mean 'job'?"),
        (["--out", "."], "is not an empty folder"),
        (["--data-dir", "nowhere"], "nowhere: expected the four files of mnist"),
        (["--minutes", "0"], "at least 1"),
    ],
)
def test_bad_options(bench, here, capsys, options, said):
    (here / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        bench("checks.command").main(options)
    assert said in capsys.readouterr().err


def test_every_planned_command_is_one_that_its_program_accepts(bench, tmp_path):
    command = bench("benchmarks.command")
    parser = command.make_parser({name: import_module(f"benchmarks.{name}") for name in command.SUBCOMMANDS})
    found = bench("checks.plan").plan(["cupy", "torch", "jax"], tmp_path, tmp_path)
    programs = {"scripts/train.py": lambda options: _parse(["train", *options])}
    programs["scripts/benchmark.py"] = parser.parse_args
    parsed = [
        (check.part, programs[check.arguments[0]](check.arguments[1:]))
        for check in found
        if check.arguments[0] in programs
    ]
    devices = [arguments.device for part, arguments in parsed if part != "job"]
    assert set(devices) == {"cuda"}
    jobs = [arguments for part, arguments in parsed if part == "job"]
    assert [job.device for job in jobs] == ["cpu", "cuda", "cuda", "cuda"]
    assert {part for part, _ in parsed} == {"job", "step", "recipes"}


def test_the_tests_are_counted_as_pytest_counts_them(bench, tmp_path):
    file = tmp_path / "test_few.py"
    file.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('word', ['a b', 'c'])\n"
        "def test_passes(word): pass\n"
        "def test_fails(): assert False\n"
        "def test_skips(): pytest.skip('no GPU')\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_errs(broken): pass\n",
        "utf-8",
    )
    process = bench("checks.process")
    check = process.Check(
        "tests", "few", ["-m", "pytest", "-v", str(file)], bench("checks.plan").read_tests, 60
    )
    result = process.run(check, 60, tmp_path)
    failures = result["figures"].pop("failures")
    assert result["figures"] == {"passed": 2, "failed": 1, "skipped": 1, "error": 1}
    assert [failure.rpartition("::")[2] for failure in failures] == ["test_fails", "test_errs"]
    assert result["problem"].startswith("exit status 1; ")


@pytest.mark.parametrize(
    ("loss", "accuracy", "agrees"),
    [
        (0.5, 0.9, True),
        (0.50005, 0.88, True),
        (0.5002, 0.9, False),
        (0.5, 0.87, False),
        (float("nan"), 0.9, False),
    ],
)
def test_the_main_job_is_compared_with_that_on_the_cpu(bench, tmp_path, loss, accuracy, agrees):
    plan = bench("checks.plan")
    cpu, gpu = plan.plan_jobs(["cupy"], tmp_path)
    for check, test_loss, test_accuracy in ((cpu, 0.5, 0.9), (gpu, loss, accuracy)):
        run = Path(check.arguments[check.arguments.index("--out") + 1])
        run.mkdir()
        metrics = {"train_loss": 0.1, "test_loss": test_loss, "test_accuracy": test_accuracy, "seconds": 1.0}
        (run / "metrics.json").write_text(
            json.dumps({**metrics, "test_per_class": [{"support": 60}, {"support": 40}]}), "utf-8"
        )
    _, _, problem = gpu.read("")
    assert (problem is None) == agrees
