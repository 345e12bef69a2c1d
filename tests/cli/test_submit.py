"""`arignote submit`, called in this process: the command that it writes."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from arignote.cli import main


@pytest.fixture
def submit(capsys, tmp_path, monkeypatch):
    """submit(words...): what is printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as caught:
            main(["submit", *words])
        out, err = capsys.readouterr()
        assert (caught.value.code, err) == (0, "")
        return out

    return run


def command(text):
    (line,) = (x for x in text.splitlines() if x.endswith("--auto-resume &"))
    return shlex.split(line.removesuffix(" &"))


def test_options_of_train_are_passed_on(submit):
    text = submit(
        *("digits-mlp", "-n", "4", "--nodes", "2", "--rule", "local-sgd:period=4", "--lr", "0.1"),
        *("--set", "train.epochs=3", "--set", "run.seed=5", "--out", "my runs/a"),
    )
    assert command(text) == [
        *(sys.executable, "-m", "arignote", "train", "digits-mlp"),
        *("--set", "train.epochs=3", "--set", "run.seed=5"),
        *("--rule", "local-sgd:period=4", "--lr", "0.1"),
        *("--set", "launch.grace_seconds=115", "--out", "my runs/a", "--auto-resume"),
    ]
    assert "#SBATCH --ntasks=4\n" in text
    assert "#SBATCH --nodes=2\n" in text
    assert "#SBATCH --job-name=digits-mlp\n" in text
    assert "run='my runs/a'\n" in text


def test_without_a_folder_the_run_has_the_one_that_train_would_choose(submit):
    words = command(submit("digits-mlp", "--save-before", "60"))
    assert re.fullmatch(r"runs/digits-mlp-\d{8}-\d{6}", words[words.index("--out") + 1])
    assert "launch.grace_seconds=55" in words


@pytest.mark.parametrize(
    ("words", "tasks"),
    [
        ([], 1),
        (["--nodes", "3"], 3),
        (["-n", "2", "--servers", "1", "--rule", "easgd"], 3),
        (["--devices", "cuda:0,cuda:1"], 2),
        (["--set", "launch.workers=5"], 5),
    ],
)
def test_tasks(submit, words, tasks):
    assert f"#SBATCH --ntasks={tasks}\n" in submit("digits-mlp", *words)


def test_cores_a_task(submit):
    text = submit("digits-mlp", "--set", "launch.threads=3")
    assert "#SBATCH --cpus-per-task=3\n" in text


def test_into_a_file(submit, tmp_path):
    assert submit("digits-mlp", "--to", "job.sh", "--sbatch=--account=me") == ""
    assert "#SBATCH --account=me\n" in (tmp_path / "job.sh").read_text()


def test_an_allocation_that_we_are_in_is_not_that_of_the_job(submit, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-8]")
    assert "#SBATCH --ntasks=2\n" in submit("digits-mlp", "-n", "2")


def test_a_run_that_has_saved_goes_on_as_what_it_is(submit, tmp_path):
    (tmp_path / "old" / "checkpoints" / "step-00000002").mkdir(parents=True)
    (tmp_path / "old" / "config.toml").write_text("[run]\nmodel = 'digits-mlp'\ndata = 'digits'\n")
    words = command(submit("--out", "old", "-n", "3"))
    assert words[3:] == [
        *("train", "--set", "launch.grace_seconds=115", "--out", "old", "--auto-resume"),
    ]


def test_it_is_given_to_slurm(submit, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nwhile read -r line; do :; done\necho 12\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    said = submit("digits-mlp", "--out", "a", "--go")
    assert said == "submitted job 12: run folder a, output slurm-12.out\n"
