"""The MPI job that measures the links: started as a training is, one worker a host."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from arignote.bench.link_report import HERE_PREFIX, MET_LINE, REPORT_PREFIX, LinkReport
from arignote.config.settings import Launch
from arignote.launch.ending import failed, who
from arignote.launch.hostcheck.compare import names
from arignote.launch.prepare import prepare
from arignote.launch.supervise import Outcome, Supervisor

_MOST_CHARACTERS = 300


class _Listener:
    """A screen that shows nothing, and keeps what the workers and the launcher say."""

    def __init__(self) -> None:
        self.here: list[str] = []
        """The nodes whose workers run."""
        self.met = False
        """Whether they have joined one world."""
        self.report: LinkReport | None = None
        self.said: list[str] = []
        """All else; Open MPI complains on stdout as well."""

    def line(self, text: str, *, error: bool) -> None:
        """A line of the job."""
        if text.startswith(HERE_PREFIX):
            self.here.append(text[len(HERE_PREFIX) :].strip())
        elif text.strip() == MET_LINE:
            self.met = True
        elif text.startswith(REPORT_PREFIX):
            try:
                self.report = LinkReport.model_validate_json(text[len(REPORT_PREFIX) :])
            except ValidationError:
                self.said.append("the report is damaged")
        else:
            self.said.append(text)

    def refresh(self) -> None:
        """Nothing is shown."""


def one_a_host(settings: Launch, hosts: Sequence[str], timeout_seconds: float) -> Launch:
    """These settings for a job of one worker on each of `hosts`."""
    changes = {
        "hosts": [f"{host}:1" for host in hosts],
        "hostfile": "",
        "workers": len(hosts),
        "servers": 0,
        "devices": [],
        "threads": 1,
        # Hosts may have fewer cores than this one, whose cores a binding would be made for.
        "bind": False,
        "start_timeout_seconds": timeout_seconds,
    }
    return settings.model_copy(update=changes)


def measure_links(
    settings: Launch, nodes: Sequence[str], timeout_seconds: float, seconds: float
) -> LinkReport:
    """What the job found.

    Args:
        settings: as `one_a_host` makes them.
        nodes: what the hosts call themselves.
        timeout_seconds: how long all may take to come together, and any wait after that.
        seconds: no link is begun after that.

    Raises:
        UserError: there is no MPI here.
        ArignoteError: the job failed; the message says why, and which host was missing.
    """
    request = json.dumps([timeout_seconds, seconds])
    launched = prepare(settings, [sys.executable, "-m", "arignote.bench.link_program", request])
    listener = _Listener()
    supervisor = Supervisor(
        launched.flavour,
        listener,
        # So that the time to come together is counted from the very start: a launcher that
        # waits for a host would wait for ever.
        graceful=True,
        grace_seconds=settings.grace_seconds,
        start_timeout_seconds=timeout_seconds,
        # The launcher may not be on one of the hosts, and then sees no other sign of life.
        started=lambda: listener.met,
        ended=lambda: listener.report is not None,
    )
    outcome = supervisor.run(launched.argv, launched.environment)
    return _conclude(outcome, listener, nodes, timeout_seconds)


def _conclude(
    outcome: Outcome, listener: _Listener, nodes: Sequence[str], timeout_seconds: float
) -> LinkReport:
    if outcome.asked_to_stop:
        raise KeyboardInterrupt
    if listener.report is not None:
        return listener.report
    if outcome.report is not None:
        raise failed(_last_line(outcome.report.message))
    missing = [node for node in nodes if node not in listener.here]
    # Open MPI starts no worker, also not here, before it has heard from all hosts.
    missing = [node for node in missing if node != platform.node()] or missing
    if outcome.overdue and missing:
        raise failed(
            f"{names(missing)} did not start a worker of the MPI job within {timeout_seconds:g} s: "
            "see whether a firewall closes ports between the hosts, or raise --timeout"
        )
    if outcome.overdue:
        raise failed(
            f"the MPI job runs on all hosts, but did not come together within {timeout_seconds:g} "
            "s: see whether a firewall closes ports between the hosts, or raise --timeout"
        )
    if outcome.death is not None:
        raise failed(who(outcome.death, None, len(nodes)))
    raise failed(_why(listener.said, missing))


def _last_line(message: str) -> str:
    """Of a traceback its end; of an error of ours all, with a remedy that applies here."""
    line = message.strip().splitlines()[-1]
    line = line.replace("raise train.timeout_seconds", "raise --timeout")
    return line.replace("run `arignote doctor`, or ", "")


def _why(said: Sequence[str], missing: Sequence[str]) -> str:
    """What the launcher said, as a line."""
    words = " ".join(" ".join(said).replace("---", "").split()).strip("- ")
    # Open MPI's, of a host that was reached, and whose daemon does not reach us.
    lost = re.search(r"unable to complete a TCP connection back .* Remote host: (\S+)", words)
    if lost:
        return (
            f"{lost.group(1)} cannot connect back to the launcher's host: see whether its "
            "interface is up, and whether a firewall closes ports between the hosts"
        )
    where = f" ({names(missing)} did not start)" if missing else ""
    words = words[:_MOST_CHARACTERS] or "the launcher said nothing"
    return f"the MPI job ended without a report{where}: {words}"
