"""Models are found and read without being run."""

from __future__ import annotations

import sys

import pytest

from arignote.config import theano_mpi
from arignote.config.model_source import find_model
from arignote.errors import UserError
from arignote.registry import MODELS

FILE = """\
raise RuntimeError("this file must not be run")

class Base:
    defaults = {"train.epochs": 3, "optimizer.name": "adam"}

class Net(Base):
    defaults: dict = {"train.epochs": 5}

class Bare(Base):
    pass

class Foreign(elsewhere.Thing):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.mark.parametrize("name", [entry.name for entry in MODELS])
def test_the_zoo(name):
    source = find_model(name)
    assert source.path.is_file()
    assert f"{source.module}:{source.class_name}" == MODELS.entry(name).target
    assert source.defaults["train.epochs"] >= 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("theanompi.models.alex_net:AlexNet", "alexnet"),
        ("theanompi.models.googlenet:GoogLeNet", "googlenet"),
        ("theanompi.models.cifar10:Cifar10_model", "cifar10-toy"),
        ("theanompi.models.lasagne_model_zoo.vgg16:VGG16", "vgg16"),
        ("theanompi.models.lasagne_model_zoo.resnet50:ResNet50", "resnet50"),
        ("theanompi.models.lasagne_model_zoo.resnet152:ResNet152", "resnet152"),
        ("theanompi.models.keras_model_zoo.wresnet:Wide_ResNet", "wide-resnet-28-4"),
    ],
)
def test_theano_mpis_names(theirs, ours):
    assert find_model(theirs) == find_model(ours)


def test_theano_mpis_names_stand_for_models_of_the_zoo():
    assert all(ours in MODELS for ours in theano_mpi.MODELS.values())
    assert all(name.startswith(theano_mpi.PACKAGE) for name in theano_mpi.MODELS)


def test_a_file_is_not_run(folder):
    (folder / "net.py").write_text(FILE)
    source = find_model("net.py:Net")
    assert (source.path, source.class_name, source.module) == (folder / "net.py", "Net", "")
    assert "net" not in sys.modules
    with pytest.raises(RuntimeError, match="must not be run"):
        source.load()


def test_defaults_come_from_bases_too(folder):
    (folder / "net.py").write_text(FILE)
    assert find_model("net.py:Net").defaults == {"train.epochs": 5, "optimizer.name": "adam"}
    assert find_model("net.py:Bare").defaults == {"train.epochs": 3, "optimizer.name": "adam"}
    assert find_model("net.py:Foreign").defaults == {}


def test_the_first_base_wins(folder):
    (folder / "net.py").write_text(
        "class A:\n    defaults = {'a': 1}\nclass B:\n    defaults = {'a': 2, 'b': 2}\n"
        "class C(A, B):\n    x = y = 1\n"
    )
    assert find_model("net.py:C").defaults == {"a": 1, "b": 2}


def test_a_class_that_is_imported(folder):
    (folder / "net.py").write_text("from torchvision.models import ResNet as Net\n")
    assert find_model("net.py:Net").defaults == {}


def test_an_absolute_path(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "net.py").write_text(FILE)
    assert find_model(f"{folder / 'sub' / 'net.py'}:Net").path == folder / "sub" / "net.py"
    assert find_model("sub/net.py:Net").path == folder / "sub" / "net.py"


def test_a_module_of_this_folder_is_not_run(folder):
    (folder / "pkg" / "deep").mkdir(parents=True)
    (folder / "pkg" / "__init__.py").write_text("raise RuntimeError('no')\n")
    (folder / "pkg" / "deep" / "net.py").write_text(FILE)
    source = find_model("pkg.deep.net:Net")
    assert source.path.resolve() == folder / "pkg" / "deep" / "net.py"
    assert source.module == "pkg.deep.net"
    assert not {"pkg", "pkg.deep", "pkg.deep.net"} & set(sys.modules)


def test_load_imports_a_file_and_its_neighbours(folder):
    (folder / "neighbour_of_net.py").write_text("NUMBER = 7\n")
    (folder / "own_net.py").write_text(
        "import dataclasses\nfrom neighbour_of_net import NUMBER\n"
        "@dataclasses.dataclass\nclass Net:\n    number: int = NUMBER\n"
    )
    assert find_model("own_net.py:Net").load()().number == 7


def test_load_imports_a_module(folder):
    (folder / "pkg_to_load").mkdir()
    (folder / "pkg_to_load" / "__init__.py").touch()
    (folder / "pkg_to_load" / "net.py").write_text("class Net:\n    number = 8\n")
    sys.path.insert(0, str(folder))
    assert find_model("pkg_to_load.net:Net").load().number == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"no model given: arignote train MODEL; known: digits-mlp, "),
        ("digits-mpl", r"unknown model 'digits-mpl': did you mean 'digits-mlp'\? known: "),
        ("missing.py:Net", r"no file '.*missing\.py' for the model: check the path before ':'"),
        ("net.py", r"model 'net\.py' names no class: write net\.py:Class"),
        ("net.py:Nett", r"net\.py: unknown class 'Nett': did you mean 'Net'\? known: Bare, "),
        ("net.py:", r"net\.py: unknown class '': known: Bare, Base, "),
        ("nowhere_at_all:Net", r"no module 'nowhere_at_all' for the model: 'nowhere_at_all' is "),
        (
            "json.nowhere:Net",
            r"no module 'json\.nowhere' for the model: 'json\.nowhere' is neither",
        ),
        (":Net", r"no module '' for the model"),
        (
            "theanompi.models.alex_net:Alexnet",
            r"unknown model of Theano-MPI 'theanompi\.models\.alex_net:Alexnet': did you mean "
            r"'theanompi\.models\.alex_net:AlexNet'\? known: ",
        ),
        ("a..b:Net", r"no module 'a\.\.b' for the model"),
        ("sys:Net", r"(module|no module) 'sys' for the model"),
        ("folder_only:Net", r"module 'folder_only' for the model is not a Python file"),
        ("broken.py:Net", r"broken\.py is not valid Python: .*line 1"),
        ("binary.py:Net", r"binary\.py is not valid Python: "),
        ("null.py:Net", r"null\.py is not valid Python: "),
        ("computed.py:Net", r"computed\.py: Net\.defaults must be a plain dictionary such as"),
        ("listed.py:Net", r"Net\.defaults must be a plain dictionary"),
        ("numbered.py:Net", r"Net\.defaults must be a plain dictionary"),
        ("unhashable.py:Net", r"Net\.defaults must be a plain dictionary"),
    ],
)
def test_mistakes(name, message, folder):
    (folder / "net.py").write_text(FILE)
    (folder / "folder_only").mkdir()
    (folder / "broken.py").write_text("class Net(:\n")
    (folder / "binary.py").write_bytes(b"\xff\xfe\x00")
    (folder / "null.py").write_bytes(b"class Net:\n    x = '\x00'\n")
    for stem, value in {
        "computed": "{'train.epochs': 2 * 3 * x}",
        "listed": "[1, 2]",
        "numbered": "{1: 2}",
        "unhashable": "{[]: 2}",
    }.items():
        (folder / f"{stem}.py").write_text(f"class Net:\n    defaults = {value}\n")
    with pytest.raises(UserError, match=message) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)
