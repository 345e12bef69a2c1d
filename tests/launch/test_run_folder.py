"""What the launcher writes into a run's folder, and what it refuses to overwrite."""

from __future__ import annotations

import pytest

from arignote.config.load import read_file, resolve
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.launch.run_folder import make_run_folder


def settings(**sections):
    return resolve([("", sections)])


def test_a_new_folder_holds_the_settings(tmp_path):
    made = settings(run={"model": "digits-mlp"}, train={"epochs": 3})
    folder = tmp_path / "deep" / "run"
    make_run_folder(folder, made, resume=False)
    assert resolve([("", read_file(folder / "config.toml"))]) == made


def test_an_existing_run_is_not_overwritten(tmp_path):
    make_run_folder(tmp_path, settings(train={"epochs": 3}), resume=False)
    begin = '{"event": "begin", "time": 0}\n'
    (tmp_path / "events.jsonl").write_text(begin)
    before = (tmp_path / "config.toml").read_bytes()
    with pytest.raises(UserError) as caught:
        make_run_folder(tmp_path, Settings(), resume=False)
    assert str(caught.value) == (
        f"{tmp_path} holds a run already: choose another --out, or go on with --resume {tmp_path}"
    )
    assert (tmp_path / "config.toml").read_bytes() == before
    make_run_folder(tmp_path, Settings(), resume=True)
    assert (tmp_path / "config.toml").read_bytes() != before


def test_a_run_that_failed_before_its_first_step_is_overwritten(tmp_path):
    make_run_folder(tmp_path, settings(train={"epochs": 3}), resume=False)
    (tmp_path / "events.jsonl").write_text('{"event": "start", "time": 0}\n')
    make_run_folder(tmp_path, Settings(), resume=False)
    assert not (tmp_path / "events.jsonl").exists()


def test_a_folder_without_a_run_may_be_used(tmp_path):
    (tmp_path / "notes.txt").touch()
    make_run_folder(tmp_path, Settings(), resume=False)
    assert (tmp_path / "config.toml").is_file()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"run folder .*file cannot be written: Not a directory"):
        make_run_folder(tmp_path / "file", Settings(), resume=False)
    with pytest.raises(UserError, match=r"run folder .*run cannot be written: Not a directory"):
        make_run_folder(tmp_path / "file" / "run", Settings(), resume=False)
