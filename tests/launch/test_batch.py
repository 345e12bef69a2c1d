"""The script for sbatch: what stands in it, what it does, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from arignote.errors import UserError
from arignote.launch.batch import (
    Request,
    check_request,
    find_sbatch,
    grace_seconds,
    script,
    seconds,
    submit,
)

LEAST = Request(name="net", tasks=2, save_before_seconds=120)
COMMAND = ["py", "-m", "arignote", "train", "net", "--out", "runs/a"]


def options(request):
    text = script(request, COMMAND, Path("runs/a"), Path("/home/me"))
    return [x.removeprefix("#SBATCH ") for x in text.splitlines() if x.startswith("#SBATCH ")]


def test_the_least_that_is_asked_of_slurm():
    assert options(LEAST) == [
        "--job-name=net",
        "--chdir=/home/me",
        "--ntasks=2",
        "--signal=B:USR1@120",
        "--requeue",
        "--open-mode=append",
    ]


def test_all_that_may_be_asked_of_slurm():
    more = Request(
        name="net",
        tasks=8,
        nodes=2,
        partition="gpu",
        time="1-0",
        save_before_seconds=60,
        threads=4,
        more=("--account=a b", "-q", "--exclusive"),
    )
    check_request(more)
    assert options(more)[6:] == [
        *("--nodes=2", "--partition=gpu", "--time=1-0", "--cpus-per-task=4"),
        *("'--account=a b'", "-q", "--exclusive"),
    ]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("1:30", 90),
        ("1:00:01", 3601),
        ("2-0", 172800),
        ("1-2:30", 95400),
        ("0-0:0:5", 5),
    ],
)
def test_times(time, expected):
    assert seconds(time) == expected


@pytest.mark.parametrize("time", ["", "1:", "1:2:3:4", "1h", "-5", "²"])
def test_times_that_are_none(time):
    with pytest.raises(UserError, match=r"--time is .*, expected minutes, H:M:S or D-H:M:S"):
        seconds(time)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 3}, r"3 nodes for 2 workers: .*so use -n 3, or --nodes 2"),
        ({"partition": "a b"}, r"--partition is 'a b': expected a name without spaces"),
        ({"name": "a\n#SBATCH"}, r"--job-name is 'a\\n#SBATCH': expected a name without spaces"),
        ({"time": "2"}, r"--time 2 is 120 s, but the run is to save 120 s before its end: give"),
        ({"time": "x"}, r"--time is 'x', expected minutes"),
        ({"more": ["account=a"]}, r"--sbatch got 'account=a', expected one of sbatch's options"),
        ({"more": ["--a=b\nrm"]}, r"--sbatch got '--a=b\\nrm', expected one of sbatch's options"),
        ({"more": ["--time=5"]}, r"--sbatch got '--time=5', which submit sets itself: use --time"),
        ({"more": ["-n4"]}, r"--sbatch got '-n4', which submit sets itself: use -n"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_request(
            Request(**({"name": "net", "tasks": 2, "save_before_seconds": 120} | changes))
        )


def test_how_long_the_workers_may_take_to_save():
    assert grace_seconds(6.0, 6.0, 120) == 115
    assert grace_seconds(30.0, 6.0, 120) == 30
    assert grace_seconds(6.0, 6.0, 60000) == 3600
    with pytest.raises(UserError, match=r"launch\.grace_seconds=300, .*use --save-before 306"):
        grace_seconds(300.0, 6.0, 120)


class Job:
    """Runs a script as Slurm would, with a trainer and an scontrol of ours."""

    def __init__(self, folder):
        self.folder = folder
        program = folder / "bin" / "scontrol"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n')
        program.chmod(0o755)
        self.environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
        (folder / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)

    def __call__(self, trainer, number=""):
        """(exit code, what scontrol was asked, stderr); the script is sent signal `number`."""
        command = ["sh", "-c", trainer]
        text = script(LEAST, command, Path("run"), self.folder)
        process = subprocess.Popen(
            ["bash"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        if number:
            assert process.stdout.readline() == "ready\n"
            subprocess.run(["bash", "-c", f"kill -{number} {process.pid}"], check=True)
        err = process.communicate(timeout=30)[1]
        asked = self.folder / "asked"
        return process.returncode, asked.read_text() if asked.exists() else "", err


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


WAIT = "echo ready; i=0; while [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done"


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_job_ends_as_its_run_does(job, code):
    assert job(f"exit {code}") == (code, "", "")


def test_a_run_that_saved_in_time_is_queued_again(job):
    save = "trap 'sleep 0.2; mkdir run/checkpoints/step-00000002; exit 138' USR1"
    assert job(f"{save}; {WAIT}", "USR1") == (0, "requeue 7\n", "")


def test_a_run_that_finished_meanwhile_is_not(job):
    assert job(f"trap 'sleep 0.2; exit 0' USR1; {WAIT}", "USR1") == (0, "", "")


def test_a_run_that_saved_nothing_is_not_for_it_would_not_either_next_time(job):
    code, asked, err = job(f"trap 'exit 138' USR1; {WAIT}", "USR1")
    assert (code, asked) == (138, "")
    assert err == "arignote: not queued again, for no step was saved: give it more --time\n"


def test_the_wish_to_end_is_passed_on(job):
    assert job(f"trap 'sleep 0.2; exit 143' TERM; {WAIT}", "TERM") == (143, "", "")


@pytest.fixture
def sbatch(tmp_path):
    """sbatch(what it does): a program that stands for it."""

    def make(does):
        path = tmp_path / "sbatch"
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_submit(sbatch, tmp_path):
    program = sbatch(f'[ "$1" = --parsable ] && cat > {tmp_path}/got && echo "12;cluster"')
    assert submit(program, "text") == "12"
    assert (tmp_path / "got").read_text() == "text"


def test_slurm_refuses(sbatch):
    says = "echo 'sbatch: error: invalid partition: x\nsbatch: error: Batch failed' >&2; exit 1"
    with pytest.raises(UserError, match=r"Slurm refuses the job: invalid partition: x; Batch fail"):
        submit(sbatch(says), "")
    with pytest.raises(UserError, match=r"Slurm refuses the job: exit code 3"):
        submit(sbatch("exit 3"), "")


def test_slurm_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"sbatch failed \(.*\): look with sinfo whether Slurm ans"):
        submit(str(tmp_path / "sbatch"), "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no sbatch on PATH: leave out --go, and give the script"):
        find_sbatch()
