"""Asking for other workers, and what the launcher makes of it; no processes."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest

from arignote.config.load import resolve
from arignote.errors import ArignoteError, UserError
from arignote.failure import Report
from arignote.launch import resize
from arignote.launch.lock import only_launcher
from arignote.launch.resize import ANSWER, ASKED, TAKEN, Answer, Request, ask
from arignote.launch.resizer import Resizer
from arignote.launch.supervise import Outcome
from arignote.recorder.events import read_events
from arignote.recorder.summary import SUMMARY_FILE, Summary

BEGIN = {"steps": 7, "train_size": 100, "can_change_workers": True}


@pytest.fixture
def running(tmp_path):
    """The folder of a run that goes on."""
    with only_launcher(tmp_path):
        yield tmp_path


def end(folder, status):
    """As if the workers had left in good order at step 7."""
    facts = dict.fromkeys(("model", "data", "rule", "exchange", "library"), "x")
    counts = dict.fromkeys(("parameters", "workers", "epochs", "samples", "wire_bytes"), 1)
    rest = {"images_per_second": 1.0, "seconds": {}, "metrics": {}, "weights_sha256": "0"}
    summary = Summary(status=status, steps=7, **facts, **counts, **rest)
    (folder / SUMMARY_FILE).write_text(summary.model_dump_json())


def left(folder):
    return sorted(path.name for path in folder.glob(".resize*"))


class TestAsking:
    def refused(self, folder, error=UserError, timeout_seconds=20.0):
        with pytest.raises(error) as caught:
            ask(folder, {"workers": 4}, timeout_seconds=timeout_seconds)
        return str(caught.value).replace(str(folder), "RUN"), caught.value.exit_code

    def test_a_run_that_is_not_running(self, tmp_path):
        assert self.refused(tmp_path) == (
            "RUN is not running: use arignote train --resume RUN -n 4",
            2,
        )
        with only_launcher(tmp_path):
            pass
        assert self.refused(tmp_path)[1] == 2
        assert left(tmp_path) == []

    @pytest.mark.parametrize("stage", [ASKED, TAKEN])
    def test_two_at_once(self, running, stage):
        (running / stage).write_text("{}")
        assert self.refused(running) == (
            "RUN is being resized already: wait until that is over",
            2,
        )
        assert left(running) == [stage]

    def test_a_full_disk(self, running, monkeypatch):
        def full(*paths):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "link", full)
        assert self.refused(running) == (
            "run folder RUN cannot be written: No space left on device",
            2,
        )
        assert left(running) == []

    def test_a_launcher_that_takes_no_notice(self, running):
        assert self.refused(running, ArignoteError, timeout_seconds=0.05) == (
            "RUN was not resized within 0.05 s: its launcher took no notice, and the request is "
            "withdrawn",
            1,
        )
        assert left(running) == []

    def test_workers_that_take_their_time(self, running, monkeypatch):
        monkeypatch.setattr(resize, "_post", lambda folder, request: (folder / TAKEN).touch())
        assert self.refused(running, ArignoteError, timeout_seconds=0.05) == (
            "RUN was not resized within 0.05 s: its workers are being changed; its own terminal "
            "will say how that ends",
            1,
        )
        assert left(running) == [TAKEN]

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            ("finished", "the run is finished at step 7"),
            ("stopped", "the run was stopped at step 7"),
            (None, "the run ended; its own terminal says why"),
        ],
    )
    def test_a_run_that_ends_meanwhile(self, tmp_path, monkeypatch, status, message):
        if status:
            end(tmp_path, status)
        seen = iter([True, True, False])
        monkeypatch.setattr(resize, "has_launcher", lambda folder: next(seen))
        assert self.refused(tmp_path, ArignoteError) == (f"RUN was not resized: {message}", 1)
        assert left(tmp_path) == []

    @pytest.fixture
    def answers(self, running, wait_until):
        """Answer whatever is asked."""
        threads = []

        def later(status, message):
            def work():
                wait_until((running / ASKED).exists, 20, "a request")
                (running / ASKED).rename(running / TAKEN)
                request = resize.read(running / TAKEN, Request)
                other = Answer(id="other", status="resized", message="of another")
                (running / ANSWER).write_text(other.model_dump_json())
                time.sleep(0.15)
                answer = Answer(id=request.id, status=status, message=message)
                resize.write_aside(running / ANSWER, answer).replace(running / ANSWER)
                (running / TAKEN).unlink()

            threads.append(threading.Thread(target=work, daemon=True))
            threads[0].start()

        yield later
        threads[0].join(20)
        assert left(running) == []

    def test_what_came_of_it(self, running, answers):
        answers("resized", "2 -> 4 workers")
        assert ask(running, {"workers": 4}, timeout_seconds=20) == f"{running}: 2 -> 4 workers"

    @pytest.mark.parametrize(("status", "code"), [("refused", 2), ("failed", 1)])
    def test_what_did_not_come_of_it(self, running, answers, status, code):
        answers(status, "no such luck")
        assert self.refused(running, ArignoteError) == ("RUN was not resized: no such luck", code)


class Screen:
    """What the launcher knows of the workers."""

    def __init__(self):
        self.begun, self.lines = dict(BEGIN), []

    def line(self, text, *, error):
        self.lines.append(text)


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def make(tmp_path, screen):
    """The launcher's end of a run of 2 workers."""

    def build(check=lambda settings: None, **launch):
        settings = resolve([("", {"launch": {"workers": 2} | launch})])
        return Resizer(tmp_path, settings, screen, check)

    return build


def request(folder, **launch):
    resize._post(folder, Request(id="mine", launch=launch))


def answer(folder):
    assert left(folder) == [ANSWER]
    found = resize.read(folder / ANSWER, Answer)
    assert found.id == "mine"
    return found.status, found.message


class TestTheLauncher:
    def test_nothing_is_asked(self, make):
        resizer = make()
        assert not resizer.must_leave()
        assert not resizer.goes_on(Outcome(0))

    def test_there_and_back(self, make, screen, tmp_path):
        resizer = make()
        for before, now, words in [(2, 4, "4 workers"), (4, 1, "1 worker")]:
            request(tmp_path, workers=now)
            assert resizer.must_leave()
            assert not resizer.must_leave()
            assert left(tmp_path) == ([TAKEN] if before == 2 else [ANSWER, TAKEN])
            end(tmp_path, "stopped")
            assert resizer.goes_on(Outcome(0))
            assert resizer.settings.launch.workers == now
            screen.begun = None
            assert not resizer.must_leave()
            screen.begun = dict(BEGIN)
            assert not resizer.must_leave()
            status, message = answer(tmp_path)
            assert status == "resized"
            assert message.startswith(f"{before} -> {words} at step 7, paused for 0.")
            assert screen.lines[-2:] == [
                f"resize: {before} -> {words}, as soon as this step is saved",
                f"resize: {message}",
            ]
        events = [(e["event"], e["before"], e["workers"]) for e in read_events(tmp_path)]
        assert events == [("resize", 2, 4), ("resize", 4, 1)]

    def test_only_the_places_change(self, make, screen, tmp_path):
        resizer = make()
        request(tmp_path, hosts=["a:1", "b:1"])
        assert resizer.must_leave()
        assert screen.lines == ["resize: 2 workers elsewhere, as soon as this step is saved"]

    def test_workers_that_do_not_train_yet_are_left_alone(self, make, screen, tmp_path):
        resizer = make()
        request(tmp_path, workers=3)
        screen.begun = None
        assert not resizer.must_leave()
        assert left(tmp_path) == [ASKED]

    def no(self, settings):
        raise UserError("there is no MPI")

    @pytest.mark.parametrize(
        ("launch", "begun", "message"),
        [
            ({"workers": 2}, {}, "it has 2 workers already, and nothing else would change"),
            (
                {"workers": 3},
                {"can_change_workers": False},
                "its model shares out its data itself, so their number cannot change in the middle "
                "of an epoch: it goes on with 2 workers",
            ),
            (
                {"workers": 101},
                {},
                "101 workers but only 100 training samples: use at most -n 100",
            ),
            ({"workers": 0}, {}, "launch.workers: got 0, input should be greater than or equal"),
            ({"wokers": 3}, {}, "unknown key in [launch] 'wokers': did you mean 'workers'?"),
            ({"workers": 3}, {}, "there is no MPI"),
        ],
    )
    def test_what_is_refused(self, make, screen, tmp_path, launch, begun, message):
        resizer = make(self.no)
        screen.begun |= begun
        request(tmp_path, **launch)
        assert not resizer.must_leave()
        status, said = answer(tmp_path)
        assert status == "refused"
        assert said.startswith(message)
        assert screen.lines == [f"resize: refused: {said}"]
        assert resizer.settings.launch.workers == 2

    def test_what_is_gone_costs_the_request_only(self, make, tmp_path):
        def gone(settings):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        resizer = make(gone)
        request(tmp_path, workers=3)
        assert not resizer.must_leave()
        assert answer(tmp_path) == ("refused", "[Errno 2] No such file or directory")

    def test_a_model_that_cannot_change_may_move(self, make, screen, tmp_path):
        resizer = make()
        screen.begun["can_change_workers"] = False
        request(tmp_path, hosts=["a:2"])
        assert resizer.must_leave()

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "a", "launch": 3}'])
    def test_a_request_that_makes_no_sense(self, make, tmp_path, text):
        (tmp_path / ASKED).write_text(text)
        assert not make().must_leave()
        assert left(tmp_path) == []

    def test_a_full_disk_costs_the_answer_only(self, make, tmp_path, monkeypatch):
        resizer = make()
        request(tmp_path, workers=2)

        def full(path, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("arignote.launch.resizer.write_aside", full)
        assert not resizer.must_leave()
        assert left(tmp_path) == []

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            ("finished", Outcome(0)),
            ("stopped", Outcome(0, asked_to_stop=signal.SIGTERM)),
            (None, Outcome(1)),
        ],
        ids=["finished", "Ctrl-C", "died"],
    )
    def test_runs_that_end_while_they_save(self, make, tmp_path, status, outcome):
        resizer = make()
        request(tmp_path, workers=3)
        assert resizer.must_leave()
        if status:
            end(tmp_path, status)
        assert not resizer.goes_on(outcome)
        assert resizer.settings.launch.workers == 2

    @pytest.fixture
    def coming(self, make, screen, tmp_path):
        """The new workers start."""
        resizer = make()
        request(tmp_path, workers=3)
        assert resizer.must_leave()
        end(tmp_path, "stopped")
        assert resizer.goes_on(Outcome(0))
        screen.begun = None
        (tmp_path / SUMMARY_FILE).unlink()
        return resizer

    def test_the_old_number_comes_back_once(self, coming, screen, tmp_path):
        report = Report(rank=2, host="a", exit_code=1, message="T ...\nX: no", expected=False)
        assert coming.goes_on(Outcome(1, report=report))
        assert coming.settings.launch.workers == 2
        why = "3 workers did not come to train: X: no"
        assert screen.lines[1:] == [report.text(), f"resize: {why}; back to 2 workers"]
        screen.begun = dict(BEGIN)
        assert not coming.must_leave()
        status, message = answer(tmp_path)
        assert status == "failed"
        assert message.startswith(f"{why}; it goes on with 2 workers, paused for 0.")
        problems = [event["problem"] for event in read_events(tmp_path)]
        assert problems == ["", why]
        # The next one is a new story.
        request(tmp_path, workers=4)
        assert coming.must_leave()
        end(tmp_path, "stopped")
        assert coming.goes_on(Outcome(0))
        assert read_events(tmp_path)[-1]["problem"] == ""

    def test_not_twice(self, coming):
        assert coming.goes_on(Outcome(255))
        assert not coming.goes_on(Outcome(255))

    def test_a_stop_while_they_start(self, coming):
        assert not coming.goes_on(Outcome(-15, asked_to_stop=signal.SIGINT))

    def test_who_dies_after_the_first_step_is_not_started_again(self, coming, screen, tmp_path):
        # It began to train, and died before anybody looked again.
        screen.begun = dict(BEGIN)
        assert not coming.goes_on(Outcome(137))
        assert answer(tmp_path)[0] == "resized"


def test_what_a_killed_launcher_left(tmp_path):
    for name in (ASKED, TAKEN, ANSWER):
        (tmp_path / name).touch()
    resize.forget_requests(tmp_path)
    assert left(tmp_path) == []
    resize.forget_requests(tmp_path)
