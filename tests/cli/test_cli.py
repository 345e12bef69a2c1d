"""The verbs, called in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import arignote
from arignote.cli import main
from arignote.launch import doctor
from arignote.launch.hostcheck import examine
from arignote.launch.hostcheck.report import HostFacts, HostLink, HostsDiagnosis
from arignote.recorder.events import EventLog
from arignote.registry import CODECS, DATA, MODELS, ROUTES, RULES

VERBS = (
    *("train", "run", "submit", "resize", "evaluate", "infer", "export"),
    *("list", "doctor", "plot", "bench", "completion"),
)


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run a command line in an empty folder: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(call, verb, option):
    code, out, err = call(verb, option)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: arignote {verb} ")


def test_help_of_all(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {verb} " in out for verb in VERBS)
    code, out, err = call()
    assert code == 2
    assert "Usage: arignote" in out + err


def test_version(call):
    assert call("--version") == (0, f"arignote, version {arignote.__version__}\n", "")


@pytest.mark.parametrize(
    ("family", "registries"),
    [
        ("rules", (RULES,)),
        ("exchanges", (ROUTES, CODECS)),
        ("models", (MODELS,)),
        ("data", (DATA,)),
    ],
)
def test_lists(call, family, registries):
    code, out, err = call("list", family)
    assert (code, err) == (0, "")
    lines = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert lines == [entry.name for registry in registries for entry in registry]
    assert out in call("list")[1]


def test_the_list_of_models(call):
    heads, *lines = call("list", "models")[1].splitlines()
    assert heads.split("  ")[0] == "models"
    assert max(map(len, lines)) <= 120
    columns = [heads.index(word) for word in ("input, classes", "paper")]
    for line, entry in zip(lines, MODELS, strict=True):
        assert entry.parameters > 0
        assert line.startswith(f"  {entry.name} ")
        assert line[: columns[0]].endswith(f" {entry.parameters:,}  ")
        assert line[columns[0] :].startswith(f"{entry.input}  ")
        assert line[columns[1] :].startswith(f"{entry.paper or '-'}  ")
        assert line.endswith(f"  {entry.summary}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(call, shell, monkeypatch):
    code, out, err = call("completion", shell)
    assert (code, err) == (0, "")
    assert "_ARIGNOTE_COMPLETE" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_what_is_completed(capsys, monkeypatch):
    monkeypatch.setenv("_ARIGNOTE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "arignote train digits-")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.splitlines() == ["plain,digits-mlp", "plain,digits-cnn"]


def test_dry_run_of_one_worker(call, tmp_path):
    code, out, err = call("train", "digits-mlp", "--dry-run", "--out", "here")
    assert (code, err) == (0, "")
    assert out == f"{sys.executable} -m arignote.worker {tmp_path / 'here'}\n"
    assert list(tmp_path.iterdir()) == []


def test_dry_run_names_a_folder(call, tmp_path):
    code, out, _ = call("train", "digits-mlp", "--dry-run")
    assert code == 0
    assert Path(out.split()[-1]).parent == tmp_path / "runs"
    assert Path(out.split()[-1]).name.startswith("digits-mlp-2")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mpirun(tmp_path_factory, monkeypatch):
    """An mpirun that only knows its name."""
    path = tmp_path_factory.mktemp("mpi") / "mpirun"
    path.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 5.0.11'\n")
    path.chmod(0o755)
    monkeypatch.setenv("ARIGNOTE_MPIRUN", str(path))
    return path


def test_dry_run_of_several_hosts(call, mpirun, tmp_path):
    code, out, err = call("train", "digits-mlp", "--hosts", "a:2,b:1", "--dry-run", "--out", "here")
    assert (code, err) == (0, "")
    words = out.split()
    assert words[:3] == [str(mpirun), "-n", "3"]
    assert words[words.index("--host") + 1] == "a:2,b:1"
    assert words[-3:] == ["-m", "arignote.worker", str(tmp_path / "here")]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_a_script(call, mpirun, tmp_path):
    (tmp_path / "my script.py").touch()
    code, out, err = call("run", "-n", "2", "--dry-run", "my script.py", "-n", "7", "--lr=1")
    assert (code, err) == (0, "")
    assert out.startswith(f"{mpirun} -n 2 ")
    assert out.endswith(f" {sys.executable} 'my script.py' -n 7 --lr=1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["my script.py"]


def test_dry_run_of_a_resumed_run(call, tmp_path):
    (tmp_path / "run").mkdir()
    config = tmp_path / "run" / "config.toml"
    config.write_text("[run]\nmodel = 'digits-mlp'\ndata = 'digits'\n")
    for arguments in (
        ["--resume", "run"],
        ["--resume", "run", "--out", "run"],
        ["--out", "run", "--resume"],
        ["digits-mlp", "--resume", "run", "--epochs", "30"],
    ):
        code, out, err = call("train", *arguments, "--dry-run")
        assert (code, err) == (0, "")
        assert out.endswith(f"arignote.worker {tmp_path / 'run'} --resume\n")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.toml"]


def test_the_newest_run_is_resumed(call, tmp_path):
    for age, name in enumerate(["new", "old", "older"]):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = folder / "config.toml"
        config.write_text("[run]\nmodel = 'digits-mlp'\ndata = 'digits'\n")
        os.utime(config, (1e9 - age, 1e9 - age))
    code, out, _ = call("train", "--dry-run", "--resume")
    assert code == 0
    assert out.endswith(f"{tmp_path / 'runs' / 'new'} --resume\n")


@pytest.fixture
def resolved(call, monkeypatch):
    """The settings that a command line comes to."""
    from arignote.launch import start

    def resolve(*arguments):
        kept = []
        monkeypatch.setattr(start, "train", lambda settings, *_, **__: kept.append(settings) or 0)
        code, _, err = call("train", *arguments)
        assert (code, err) == (0, "")
        return kept[0]

    return resolve


def test_precedence(resolved, tmp_path):
    model = resolved("digits-mlp")
    assert (model.train.epochs, model.run.data) == (20, "digits")
    (tmp_path / "c.toml").write_text("[train]\nepochs = 2\nsteps = 3\nbatch_size = 4\n")
    file = ["digits-mlp", "-c", "c.toml"]
    train = resolved(*file).train
    assert (train.epochs, train.steps, train.batch_size) == (2, 3, 4)
    train = resolved(*file, "--set", "train.epochs=5", "--set", "train.steps=6").train
    assert (train.epochs, train.steps, train.batch_size) == (5, 6, 4)
    train = resolved(*file, "--set", "train.epochs=5", "--epochs", "7").train
    assert (train.epochs, train.steps) == (7, 3)


def test_every_option_is_a_setting(resolved):
    settings = resolved(
        *("digits-cnn", "-n", "1", "--devices", "cpu0", "--rule", "bsp:scheme=weights"),
        *("--exchange", "ar", "--data", "digits", "--batch-size", "8", "--epochs", "3"),
        *("--steps", "4", "--lr", "0.5", "--seed", "6"),
    )
    run, train = settings.run, settings.train
    assert (run.model, run.rule, run.exchange) == ("digits-cnn", "bsp:scheme=weights", "ar")
    assert (run.data, run.seed) == ("digits", 6)
    assert (train.batch_size, train.epochs, train.steps) == (8, 3, 4)
    assert settings.optimizer.learning_rate == 0.5
    assert (settings.launch.workers, settings.launch.devices) == (1, ["cpu"])


def test_a_session_cfg(resolved, tmp_path):
    (tmp_path / "net.py").write_text("class Net:\n    defaults = {'train.epochs': 4}\n")
    (tmp_path / "session.cfg").write_text(
        "RULE=BSP\nMODELFILE=net.py\nMODELCLASS=Net\nDEVICES=cpu0,cpu1\nBSP_SYNC_TYPE=avg\n"
    )
    settings = resolved("-c", "session.cfg")
    assert settings.run.model == "net.py:Net"
    assert settings.run.rule == "bsp:scheme=weights"
    assert (settings.launch.workers, settings.train.epochs) == (2, 4)


class TestDoctor:
    @pytest.fixture(params=[[], ["buy more memory"]])
    def advice(self, request, monkeypatch):
        found = doctor.Diagnosis(facts={"MPI": "MPI 1", "cores": "2"}, advice=request.param)
        monkeypatch.setattr(doctor, "examine", lambda: found)
        return request.param

    def test_a_table(self, call, advice):
        code, out, err = call("doctor")
        assert (code, err) == (1 if advice else 0, "")
        lines = out.splitlines()
        assert lines[:2] == [f"{'MPI':<20} MPI 1", f"{'cores':<20} 2"]
        expected = [f"advice: {line}" for line in advice] or ["nothing to complain about"]
        assert lines[2:] == expected

    def test_json(self, call, advice):
        code, out, _ = call("doctor", "--json")
        assert code == (1 if advice else 0)
        assert json.loads(out) == {"facts": {"MPI": "MPI 1", "cores": "2"}, "advice": advice}


class TestDoctorOfHosts:
    @pytest.fixture(params=[[], ["h1 is slow"]])
    def found(self, request, monkeypatch):
        facts = HostFacts(
            node="a",
            python="3.11.7",
            executable="/env/bin/python",
            packages={"arignote": "0.1.0", "torch": "2.13.0"},
            code="abc",
            mpi="MPI 1",
            mpi_problem="",
            devices=[{"name": "H100", "free_gib": 79.0, "gib": 80.0}],
            cores=4,
            memory_gib=16.0,
            free_memory_gib=8.0,
            free_shared_memory_gib=None,
            interfaces={"eth0": []},
            ways={"h1": "eth0", "h2": None},
            cuda_aware=True,
            clock_seconds=-0.5,
        )
        link = HostLink(first="h0", second="h1", there_mbit=940, back_mbit=96, latency_us=50)
        report = HostsDiagnosis(hosts={"h0": facts, "h1": None}, links=[link], advice=request.param)
        calls = []

        def examine_hosts(settings, **options):
            calls.append((settings, options))
            return report

        monkeypatch.setattr(examine, "examine_hosts", examine_hosts)
        return SimpleNamespace(report=report, calls=calls, advice=request.param)

    def test_a_table(self, call, found):
        code, out, err = call("doctor", "--hosts", "h0:2,h1:2", "--timeout", "9")
        assert (code, err) == (1 if found.advice else 0, "")
        [(settings, options)] = found.calls
        assert (settings.hosts, settings.workers) == (["h0:2", "h1:2"], 4)
        assert options == {"timeout_seconds": 9.0, "seconds": 60.0}
        rows = {line[2:20].strip(): line[21:] for line in out.splitlines() if line[:2] == "  "}
        assert rows["arignote"] == "0.1.0 (code abc)"
        assert rows["MPI"] == "MPI 1, CUDA-aware"
        assert rows["devices"] == "H100 (79.0 of 80.0 GiB free)"
        assert rows["memory"] == "8.0 of 16.0 GiB free"
        assert rows["shared memory"] == "none"
        assert rows["network"] == "eth0 to h1; names not known here: h2"
        assert rows["clock"] == "-500.0 ms"
        assert "h1\n                     did not answer\n" in out
        assert out.splitlines()[-2].split() == ["h0", "-", "h1", "940", "96", "50"]
        expected = f"advice: {found.advice[0]}" if found.advice else "nothing to complain about"
        assert out.splitlines()[-1] == expected

    def test_json(self, call, found, tmp_path):
        (tmp_path / "hosts").write_text("h0 slots=2\nh1 slots=1\n")
        code, out, _ = call("doctor", "--hostfile", "hosts", "--json")
        assert code == (1 if found.advice else 0)
        assert HostsDiagnosis.model_validate_json(out) == found.report
        assert found.calls[0][0].workers == 3

    def test_settings_of_a_file_count(self, call, found, tmp_path):
        (tmp_path / "run.toml").write_text('[launch]\nhosts = ["a:1", "b:1"]\nworkers = 2\n')
        call("doctor", "-c", "run.toml", "--set", "launch.threads=3")
        [(settings, _)] = found.calls
        assert (settings.hosts, settings.threads) == (["a:1", "b:1"], 3)

    def test_an_allocation_of_several_nodes(self, call, found, monkeypatch):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
        call("doctor")
        assert len(found.calls) == 1

    def test_of_many_links_the_extremes(self, call, found):
        found.report.links = [
            HostLink(first="h0", second="h1", there_mbit=rate, back_mbit=9000, latency_us=50)
            for rate in range(101, 140)
        ]
        shown = call("doctor", "--hosts", "h0,h1")[1].split("links:")[1].splitlines()[1:5]
        assert [line.split()[3] for line in shown[:3]] == ["101", "120", "139"]
        assert shown[3] == "  (the slowest, the median and the fastest of 39; all: --json)"
        found.report.links_left_out = 6
        out = call("doctor", "--hosts", "h0,h1")[1]
        assert "\n  6 of 45 were not measured in the time: --seconds\n" in out

    def test_options_without_hosts(self, call):
        code, out, err = call("doctor", "-n", "3")
        assert (code, out) == (2, "")
        assert err.startswith("arignote: error: no hosts to check: name them with --hosts A:2,B:2")


class TestPlot:
    @pytest.fixture
    def made(self, tmp_path):
        folder = tmp_path / "runs" / "one"
        folder.mkdir(parents=True)
        (folder / "config.toml").touch()
        log = EventLog(folder)
        seconds = {"calc": 1.0, "comm": 1.0, "sync": 1.0, "wait": 1.0}
        log.write("epoch", epoch=1, loss=0.5, seconds=seconds)
        log.close()
        return folder

    def test_the_newest_run(self, call, made):
        code, out, err = call("plot")
        assert (code, out, err) == (0, "plot runs/one/plot.png\n", "")
        assert (made / "plot.png").stat().st_size > 1000

    def test_a_named_one(self, call, made, tmp_path):
        assert call("plot", str(made), "-o", "x.svg") == (0, "plot x.svg\n", "")
        assert (tmp_path / "x.svg").stat().st_size > 1000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["none"], "none is no run: it has no events.jsonl; give the folder of a run"),
            (["runs/one", "-o", "x.gif"], "got 'x.gif', expected a file that ends in .png"),
            (["runs/one", "-o", "no/x.png"], "plot no/x.png cannot be written: No such file"),
        ],
    )
    def test_mistakes(self, call, made, arguments, message):
        code, out, err = call("plot", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"arignote: error: {message}")
        assert err.count("\n") == 1

    def test_no_run(self, call):
        assert call("plot") == (
            2,
            "",
            "arignote: error: no run in runs/: name the folder of one\n",
        )


def test_the_launcher_imports_neither_torch_nor_mpi(tmp_path):
    code = (
        "import sys\nfrom arignote.cli import main\n"
        "try:\n    main(['train', 'digits-mlp', '--dry-run'])\nexcept SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "print([m for m in ('torch', 'mpi4py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert list(tmp_path.iterdir()) == []
