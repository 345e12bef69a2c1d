"""Registries: every entry is there, and unknown names are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from arignote import registry
from arignote.errors import UserError
from arignote.registry import Entry, Registry

REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]
ENTRIES = [(family, entry) for family in REGISTRIES for entry in family]


def test_there_are_families():
    assert {family.kind for family in REGISTRIES} >= {"rule", "route", "codec", "model", "data set"}


@pytest.mark.parametrize(
    ("family", "entry"), ENTRIES, ids=[f"{family.kind}-{entry.name}" for family, entry in ENTRIES]
)
def test_every_entry_loads(family, entry):
    loaded = family.load(entry.name)
    assert isinstance(loaded, type)
    assert entry.target == f"{loaded.__module__}:{loaded.__qualname__}"
    assert loaded.__doc__
    assert entry.name in family
    assert family.entry(entry.name) is entry
    assert entry.summary
    assert "\n" not in entry.summary


@pytest.mark.parametrize("family", REGISTRIES, ids=[family.kind for family in REGISTRIES])
def test_unknown_names(family):
    first = next(iter(family)).name
    for ask in (family.entry, family.load):
        with pytest.raises(UserError, match=rf"unknown {family.kind} '{first}x': did you mean '"):
            ask(f"{first}x")
    assert f"{first}x" not in family


def test_entries_keep_their_order():
    family = Registry("thing", Entry("b", "m:B", "b"), Entry("a", "m:A", "a"))
    assert [entry.name for entry in family] == ["b", "a"]


@pytest.mark.parametrize("entry", list(registry.MODELS), ids=lambda entry: entry.name)
def test_the_page_of_models_says_the_same(entry):
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    begin = f"| `{entry.name}` | {entry.parameters:,}"
    (row,) = (line for line in page.splitlines() if line.startswith(begin))
    assert f" | {entry.input} | " in row
    assert not entry.paper or entry.paper.split()[-1] in row


def test_the_page_of_data_has_them_all():
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    table = page.split("\n## ")[0]
    rows = {line.split(":")[0].split("`")[1] for line in table.splitlines() if line[:3] == "| `"}
    assert rows == {entry.name for entry in registry.DATA}


def test_the_page_of_data_has_all_augmentations():
    page = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    table = page.split("\n## Augmentation")[1].split("\n## ")[0]
    rows = {line.split("`")[1].split("[")[0] for line in table.splitlines() if line[:3] == "| `"}
    assert rows == {entry.name for entry in registry.AUGMENTATIONS}


def test_a_dotted_target():
    family = Registry("thing", Entry("path", "pathlib:Path", "a path"))
    assert family.load("path").__name__ == "Path"
