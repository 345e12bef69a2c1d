"""From a spec to a data set: names, folders, augmentation."""

from __future__ import annotations

import pytest

from arignote.data.open import open_data
from arignote.errors import DataError, UserError


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown data set 'cifar': did you mean 'cifar10'\?"):
        open_data("cifar:/data", "none")


def test_an_unknown_augmentation():
    with pytest.raises(UserError, match="unknown augmentation 'flip'"):
        open_data("digits", "flip")


@pytest.mark.parametrize("name", ["imagefolder", "cifar10", "idx"])
def test_folders_that_are_none(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} takes 1 argument, got none: write {name}:DIR"):
        open_data(name, "none")
    with pytest.raises(UserError, match=f"takes 1 argument, got 'a', 'b': write {name}:DIR"):
        open_data(f"{name}:a,b", "none")
    with pytest.raises(DataError, match=f"missing does not exist: write {name}:DIR"):
        open_data(f"{name}:{tmp_path / 'missing'}", "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        open_data(f"{name}:{tmp_path / 'file'}", "none")
