"""How the job that measures the links is started, and what is said when it fails."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from arignote.bench.link_report import HERE_PREFIX, MET_LINE, REPORT_PREFIX, LinkReport
from arignote.config.settings import Launch
from arignote.errors import ArignoteError
from arignote.failure import Report
from arignote.launch.flavours.base import Death
from arignote.launch.hostcheck import job
from arignote.launch.supervise import Outcome

DAEMON = """\
------------------------------------------------------------
A daemon failed to report back after being spawned. This could
able to execute, but was unable to complete a TCP connection
back to prterun:

  Local host:    h0
  Remote host:   h1
------------------------------------------------------------
"""


@pytest.fixture
def run(monkeypatch):
    """run(outcome, *lines): measure_links() with a job that says `lines` and ends like that."""
    started = []
    monkeypatch.setattr(
        job,
        "prepare",
        lambda settings, command: SimpleNamespace(argv=command, environment={}, flavour=None),
    )

    def run(outcome, *lines):
        class Supervisor:
            def __init__(self, flavour, screen, **options):
                self.screen, self.options = screen, options

            def run(self, argv, environment):
                started.append(argv)
                for line in lines:
                    self.screen.line(line, error=False)
                self.screen.refresh()
                assert self.options["started"]() == (MET_LINE in lines)
                return outcome

        monkeypatch.setattr(job, "Supervisor", Supervisor)
        return job.measure_links(Launch(), ["h0", "h1"], 8.0, 20.0)

    run.started = started
    return run


def test_one_worker_a_host():
    settings = Launch(workers=8, servers=1, hosts=["a:4", "b:5"], devices=["cpu"], threads=4)
    made = job.one_a_host(settings, ["a", "b"], 8.0)
    assert (made.workers, made.servers, made.hosts) == (2, 0, ["a:1", "b:1"])
    assert (made.devices, made.threads, made.start_timeout_seconds) == ([], 1, 8.0)


def test_a_report(run):
    report = LinkReport(ranks=[], links=[], left_out=1)
    lines = [f"{HERE_PREFIX}h0", MET_LINE, f"{REPORT_PREFIX}{report.model_dump_json()}"]
    assert run(Outcome(0), *lines) == report
    [argv] = run.started
    assert argv[-2:] == ["arignote.bench.link_program", "[8.0, 20.0]"]
    assert json.loads(argv[-1]) == [8.0, 20.0]


def test_a_job_that_was_told_to_stop(run):
    with pytest.raises(KeyboardInterrupt):
        run(Outcome(1, asked_to_stop=2))


@pytest.mark.parametrize(
    ("outcome", "lines", "message"),
    [
        (
            Outcome(1, overdue=True),
            [f"{HERE_PREFIX}h0"],
            "h1 did not start a worker of the MPI job within 8 s: see whether a firewall closes "
            "ports between the hosts, or raise --timeout",
        ),
        (
            Outcome(1, overdue=True),
            [f"{HERE_PREFIX}h0", f"{HERE_PREFIX}h1"],
            "the MPI job runs on all hosts, but did not come together within 8 s: see whether a "
            "firewall closes ports between the hosts, or raise --timeout",
        ),
        (Outcome(1, death=Death(9, rank=1)), [], "worker 1 was killed by SIGKILL"),
        (
            Outcome(213),
            DAEMON.splitlines(),
            "h1 cannot connect back to the launcher's host: see whether its interface is up, and "
            "whether a firewall closes ports between the hosts",
        ),
        (
            Outcome(1),
            [f"{HERE_PREFIX}h0", "no such", "program"],
            "the MPI job ended without a report (h1 did not start): no such program",
        ),
        (
            Outcome(1),
            [],
            "the MPI job ended without a report (h0, h1 did not start): the launcher said nothing",
        ),
        (
            Outcome(0),
            [f"{HERE_PREFIX}h0", f"{HERE_PREFIX}h1", f"{REPORT_PREFIX}{{"],
            "the MPI job ended without a report: the report is damaged",
        ),
    ],
)
def test_a_job_that_fails(run, outcome, lines, message):
    with pytest.raises(ArignoteError) as caught:
        run(outcome, *lines)
    assert str(caught.value) == message
    assert caught.value.exit_code == 1


def test_the_launchers_own_host_is_not_blamed_for_another(run, monkeypatch):
    monkeypatch.setattr(job.platform, "node", lambda: "h0")
    with pytest.raises(ArignoteError, match=r"^h1 did not start a worker of the MPI job"):
        run(Outcome(1, overdue=True))


@pytest.mark.parametrize(
    ("message", "expected", "told"),
    [
        (
            "worker 1 (host h1, pid 7) did not finish the link h0 - h1 within 8 s; look at that "
            "worker and the network to it, or raise train.timeout_seconds",
            True,
            "worker 1 (host h1, pid 7) did not finish the link h0 - h1 within 8 s; look at that "
            "worker and the network to it, or raise --timeout",
        ),
        (
            "MPI formed a world of 1: run `arignote doctor`, or name the right one",
            True,
            "MPI formed a world of 1: name the right one",
        ),
        ("Traceback\n  File\nValueError: no\n", False, "ValueError: no"),
    ],
)
def test_a_worker_that_fails(run, message, expected, told):
    report = Report(rank=0, host="h0", exit_code=1, message=message, expected=expected)
    with pytest.raises(ArignoteError) as caught:
        run(Outcome(1, report=report))
    assert str(caught.value) == told
