"""`digits`: a fixed, stratified split, and what happens without scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import UserError


def test_the_split_is_stratified_and_loses_nothing():
    data = open_data("digits", "none")
    assert (data.train_size, data.validation_size) == (1437, 360)
    assert data.sample_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    train = data.train_batch(np.arange(1437), seed=0, epoch=0)
    validation = data.validation_batch(np.arange(360))
    shares = np.bincount(validation.targets, minlength=10) / (
        np.bincount(train.targets, minlength=10) + np.bincount(validation.targets, minlength=10)
    )
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_no_sample_is_in_both_splits():
    data = open_data("digits", "none")
    train = data.train_batch(np.arange(1437), seed=0, epoch=0).inputs.numpy()
    validation = data.validation_batch(np.arange(360)).inputs.numpy()
    # All of scikit-learn's digits are different, so equal pixels would be the same sample.
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in validation}


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r'needs scikit-learn: pip install "arignote\[demo\]"$'):
        open_data("digits", "none")


def test_its_code_is_not_loaded():
    program = (
        "import sys; from arignote.data.open import open_data; open_data('digits', 'none');"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_arguments_and_options_are_refused():
    with pytest.raises(UserError, match=r"digits takes 0 arguments, got '/data': write digits$"):
        open_data("digits:/data", "none")
    with pytest.raises(UserError, match=r"digits takes no options, got 'size'$"):
        open_data("digits:size=3", "none")
