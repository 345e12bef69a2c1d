"""`arignote submit --go` under a real Slurm: time limits, queueing again, other worker counts."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

STEPS = 60


def submitted(user: Any, *words: str) -> str:
    """The number of the job that was submitted."""
    said = user.arignote("submit", "net.py:Net", *words, "--go")
    match = re.match(r"submitted job (\d+): run folder run, output slurm-\1\.out\n", said)
    assert match is not None, said
    return match.group(1)


def trained_a_step(user: Any, run: str) -> bool:
    events = user.folder / run / "events.jsonl"
    return events.exists() and '"event": "step"' in events.read_text()


@pytest.mark.timeout(1500)
def test_a_time_limit_costs_no_bit(user: Any, undisturbed: Any) -> None:
    # Slurm sends its signal within the minute before 3:45: before the run's 240 s are over.
    user.environment["STEP_SECONDS"] = "4"
    job = submitted(
        user, *("-n", "2", "--nodes", "2", "--steps", str(STEPS), "--out", "run"),
        *("--time", "4", "--save-before", "15"),
    )  # fmt: skip
    said = user.wait_for_job(job, 1200)
    assert re.search(r"arignote: stopped by SIGUSR1, saved at step \d+; go on with: ", said), said
    assert len(user.starts("run")) >= 2
    assert {tuple(hosts) for hosts in user.starts("run")} == {("h1", "h2")}
    summary = user.summary("run")
    assert (summary["status"], summary["steps"]) == ("finished", STEPS)
    assert summary["weights_sha256"] == undisturbed(2, STEPS)


@pytest.mark.timeout(1200)
def test_told_to_save_it_is_queued_again_and_goes_on_with_other_workers(user: Any) -> None:
    user.environment["STEP_SECONDS"] = "1"
    job = submitted(user, "-n", "2", "--steps", "40", "--out", "run")
    deadline = time.monotonic() + 400
    while not trained_a_step(user, "run"):
        assert time.monotonic() < deadline, user.output(job)
        time.sleep(1)
    # What Slurm does before a time limit, without waiting for one; then, held, it is changed.
    user.run("scancel", "--signal=USR1", "--batch", job)
    while user.state(job) != "PENDING":
        assert time.monotonic() < deadline, user.output(job)
        time.sleep(0.2)
    user.run("scontrol", "update", f"JobId={job}", "NumTasks=3", "NumCPUs=3")
    user.wait_for_job(job, 600)
    assert [len(hosts) for hosts in user.starts("run")] == [2, 3]
    assert (user.summary("run")["status"], user.summary("run")["steps"]) == ("finished", 40)


@pytest.mark.timeout(1200)
def test_the_same_run_submitted_with_more_workers_goes_on(user: Any) -> None:
    user.arignote("train", "net.py:Net", "-n", "2", "--steps", "4", "--out", "run")
    job = submitted(user, "-n", "3", "--nodes", "2", "--steps", "8", "--out", "run")
    said = user.wait_for_job(job, 400)
    assert user.starts("run")[1] == ["h1", "h1", "h2"], said
    assert (user.summary("run")["status"], user.summary("run")["steps"]) == ("finished", 8)


@pytest.mark.timeout(1200)
def test_what_slurm_refuses_is_told_in_one_line(user: Any) -> None:
    words = ["submit", "net.py:Net", "-n", "2", "--partition", "none", "--go"]
    said = user.arignote(*words, code=2)
    assert re.fullmatch(r"arignote: error: Slurm refuses the job: .*invalid partition.*\n", said)
