"""What `import arignote` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import arignote


@pytest.mark.parametrize("name", arignote.__all__)
def test_every_name_resolves(name):
    value = getattr(arignote, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__doc__


def test_dir_lists_them():
    assert dir(arignote) == sorted(arignote.__all__)
    assert len(set(arignote.__all__)) == len(arignote.__all__)


@pytest.mark.parametrize("name", ["bsp", "Trainer", "_private"])
def test_an_unknown_attribute(name):
    with pytest.raises(AttributeError, match=f"module 'arignote' has no attribute '{name}'"):
        getattr(arignote, name)
    assert not hasattr(arignote, name)


def test_the_version():
    assert [part.isdigit() for part in arignote.__version__.split(".")] == [True] * 3


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, arignote; arignote.UserError; arignote.BSP\n"
        "print([m for m in ('torch', 'mpi4py', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
