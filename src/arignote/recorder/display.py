"""Show a run while it goes on: a live line in a terminal, plain lines elsewhere.

The launcher owns the terminal and the workers only write events, so nothing that passes
through mpirun's pipes needs to know how wide the screen is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.table import Table

from arignote.recorder.events import EventTail
from arignote.recorder.placement_lines import placement_lines
from arignote.recorder.progress import live_progress
from arignote.recorder.summary import Summary, phase_rows, read_summary

_NAMES_SHOWN = 20
"""Of the tensors that were left out, for one reason each."""


class Display:
    """Follows a run's events. A context manager: leaving it shows the summary.

    Args:
        tail: the run's events.
        run_folder: where the summary will be.
    """

    def __init__(self, tail: EventTail, run_folder: Path) -> None:
        self.met = False
        """All workers have come to their first meeting."""
        self.ended = False
        """The run has come to its end, saved or finished."""
        self.begun: dict[str, Any] | None = None
        """The event with which the workers began to train; None until they do."""
        self._sample_name = "images"
        self._tail = tail
        self._run_folder = run_folder
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._progress = live_progress(self._console)
        self._task = self._progress.add_task("starting", total=None, now="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        summary = read_summary(self._run_folder)
        if self.ended and summary is not None:
            self._show_summary(summary)

    def start_again(self) -> None:
        """Other workers go on with the run, and have yet to meet."""
        # What the old ones wrote last must not be taken for the new ones'.
        self.refresh()
        self.met, self.ended, self.begun = False, False, None
        self._progress.update(self._task, description="starting again")

    def line(self, text: str, *, error: bool) -> None:
        """A line that a worker printed; above the live line where there is one."""
        if self._live:
            self._console.out(text, highlight=False)
        else:
            # As it came, and fast: a worker may print a great deal.
            stream = sys.stderr if error else sys.stdout
            stream.write(text + "\n")

    def refresh(self) -> None:
        """Show what is new."""
        sys.stdout.flush()
        for event in self._tail.new():
            show = getattr(self, f"_on_{event['event']}", None)
            if show is not None:
                show(event)

    def _say(self, text: str) -> None:
        self._console.out(text, highlight=False)

    def _on_start(self, event: dict[str, Any]) -> None:
        self.met = True

    def _on_placement(self, event: dict[str, Any]) -> None:
        for line in placement_lines(event["workers"], event["idle_gpus"]):
            self._say(line)

    def _on_exchange(self, event: dict[str, Any]) -> None:
        if "median_seconds" in event:
            times = event["median_seconds"].items()
            table = ", ".join(f"{name} {seconds * 1e3:.3g} ms" for name, seconds in times)
            self._say(f"exchange auto is {event['chosen']}: {table}")
        for name, reason in event.get("refused", {}).items():
            self._say(f"exchange auto left out {name}: {reason}")
        if "memory" in event:
            self._say(event["memory"])

    def _on_begin(self, event: dict[str, Any]) -> None:
        self.begun = event
        self._sample_name = event.get("sample_name", self._sample_name)
        count = event["workers"]
        workers = f"{count} worker" if count == 1 else f"{count} workers"
        data = event["data"] or "its own data"
        self._say(
            f"{event['model']} ({event['parameters']:,} parameters) on {data} · {workers} · "
            f"{event['rule']} · {event['exchange']} · {event['library']}"
        )
        self._say(f"run folder {self._run_folder}")
        if event["epoch"] >= event["epochs"]:
            self._say("nothing is left to train: raise --epochs to go on")
        self._progress.update(
            self._task, description="training", total=event["epochs"], completed=event["epoch"]
        )

    def _on_weights(self, event: dict[str, Any]) -> None:
        left_out = {
            "of another shape": event["other_shape"],
            "missing in the file": event["missing"],
            "unknown to the model": event["unknown"],
        }
        loaded = len(event["loaded"])
        of_model = loaded + len(event["other_shape"]) + len(event["missing"])
        counts = ", ".join(f"{len(names)} {why}" for why, names in left_out.items())
        self._say(f"weights {event['file']}: {loaded} of {of_model} tensors loaded; {counts}")
        for why, names in left_out.items():
            if names:
                more = len(names) - _NAMES_SHOWN
                rest = f"; {more} more (events.jsonl has all)" if more > 0 else ""
                self._say(f"  {why}: {'; '.join(names[:_NAMES_SHOWN])}{rest}")

    def _on_resume(self, event: dict[str, Any]) -> None:
        changes = "; ".join(event["changes"]) or "nothing changes"
        self._say(f"resumed from {event['checkpoint']}: {changes}")

    def _on_step(self, event: dict[str, Any]) -> None:
        now = (
            f"step {event['step']} · loss {_number(event['loss'], '.4f')} · "
            f"{event['images_per_second']:,.0f} {self._sample_name}/s"
        )
        if "staleness" in event:
            now += f" · staleness {event['staleness']:.0f}"
        self._progress.update(self._task, completed=event["epoch"], now=now)

    def _on_epoch(self, event: dict[str, Any]) -> None:
        self._progress.update(self._task, completed=event["epoch"])
        self._say(
            f"epoch {event['epoch']:>3} · step {event['step']} · "
            f"loss {_number(event['loss'], '.4f')} · "
            f"{event['images_per_second']:,.0f} {self._sample_name}/s · "
            + " ".join(f"{name} {spent:.2f}s" for name, spent in event["seconds"].items())
        )

    def _on_validation(self, event: dict[str, Any]) -> None:
        self._say(
            f"  validation · accuracy {_number(event['accuracy'], '.2%')} · "
            f"top-5 error {_number(event['error_top5'], '.2%')} · "
            f"loss {_number(event['loss'], '.4f')}" + _apart(event.get("consensus_distance"))
        )

    def _on_end(self, event: dict[str, Any]) -> None:
        self.ended = True

    def _show_summary(self, summary: Summary) -> None:
        table = Table(title="Where every second of the steps went (mean over the workers)")
        for heading in ("phase", "seconds", "ms a step", "share"):
            table.add_column(heading, justify="left" if heading == "phase" else "right")
        for name, seconds, each, share in phase_rows(summary.seconds, summary.steps):
            table.add_row(name, f"{seconds:.2f}", f"{each:.2f}", f"{share:.1%}")
        self._console.print(table)
        accuracy = summary.metrics.get("accuracy")
        self._say(
            f"{summary.status}: {summary.steps} steps, {summary.samples:,} samples, "
            f"{summary.images_per_second:,.0f} {self._sample_name}/s, "
            f"{summary.wire_bytes / 1e6:,.1f} MB on the wire"
            + ("" if accuracy is None else f", validation accuracy {accuracy:.2%}")
        )
        # Of bsp, which exchanges in every step, none are counted.
        if summary.workers > 1 and summary.rule.partition(":")[0] != "bsp":
            count = f"{summary.exchanges:,} exchanges"
            if not summary.exchanges:
                count = "no exchange: the run was over before the first"
            shares = ", ".join(f"{steps:,}" for steps in summary.worker_steps)
            self._say(f"{count}; steps by worker: {shares}")
        for name, note in summary.notes.items():
            self._say(
                f"{name.replace('_', ' ')}: mean {note['mean']:.3g}, largest {note['max']:.3g}"
            )
        if summary.loading is not None and summary.loading.advice():
            self._say(summary.loading.advice())
        self._say(f"weights_sha256 {summary.weights_sha256}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _apart(distance: float | None) -> str:
    return "" if distance is None else f" · consensus distance {distance:.2g}"
