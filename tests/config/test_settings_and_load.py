"""Settings: layers, their precedence, their mistakes, and the way to a file and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from arignote.config.load import nest, parse_set, read_file, resolve, to_toml
from arignote.config.problems import one_line
from arignote.config.settings import Settings
from arignote.errors import UserError


def test_no_layers_are_the_defaults():
    assert resolve([]) == Settings()


def test_precedence():
    layers = [
        ("model.defaults", {"train": {"epochs": 1, "steps": 1, "batch_size": 1}}),
        ("file", {"train": {"epochs": 2, "steps": 2}}),
        ("--set", {"train": {"epochs": 3, "clip_norm": 3.0}}),
        ("", {"train": {"clip_norm": 4.0}}),
    ]
    train = resolve(layers).train
    assert (train.batch_size, train.steps, train.epochs, train.clip_norm) == (1, 2, 3, 4.0)
    assert train.timeout_seconds == Settings().train.timeout_seconds


def test_layers_are_left_as_they_are():
    low, high = {"train": {"epochs": 1}}, {"train": {"epochs": 2}}
    resolve([("a", low), ("b", high)])
    assert (low, high) == ({"train": {"epochs": 1}}, {"train": {"epochs": 2}})


def test_a_list_is_replaced_as_a_whole():
    layers = [("a", {"launch": {"hosts": ["a:1", "b:1"]}}), ("b", {"launch": {"hosts": ["c:1"]}})]
    assert resolve(layers).launch.hosts == ["c:1"]


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().train.epochs = 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"trian": {}}, r"here: unknown section 'trian': did you mean 'train'\? known: checkpoint"),
        ({"train": 3}, r"here: \[train\] is a section: write train\.KEY = VALUE"),
        ({"train": [{"epochs": 3}]}, r"here: \[train\] is a section"),
        ({"train": {"lr": 0.1}}, r"key in \[train\] 'lr': did you mean 'optimizer.learning_rate'"),
        (
            {"train": {"momentum": 0}},
            r"'momentum': did you mean 'optimizer.momentum'\? known: augm",
        ),
        ({"train": {"epocs": 3}}, r"here: unknown key in \[train\] 'epocs': did you mean 'epochs'"),
        ({"train": {"epochs": 0}}, r"here: train\.epochs: got 0, input should be greater than or"),
        ({"train": {"epochs": 1.5}}, r"here: train\.epochs: got 1\.5, .*valid integer"),
        ({"train": {"epochs": "3"}}, r"here: train\.epochs: got '3', .*valid integer"),
        ({"train": {"epochs": True}}, r"here: train\.epochs: got True, .*valid integer"),
        ({"train": {"steps": -1}}, r"here: train\.steps: got -1, "),
        ({"train": {"batch_size": 0}}, r"here: train\.batch_size: got 0, "),
        (
            {"train": {"compile": 1}},
            r"here: train\.compile: got 1, input should be a valid boolean",
        ),
        ({"train": {"precision": "fp8"}}, r"got 'fp8', input should be 'auto', 'fp32', 'bf16', "),
        (
            {"train": {"augment": "flip"}},
            r"here: train\.augment: got 'flip', unknown augmentation 'flip': known: color-jitter, ",
        ),
        ({"train": {"augment": 3}}, r"train\.augment: got 3, input should be a valid string"),
        ({"train": {"batch_norm": "x"}}, r"got 'x', input should be 'local' or 'synchronised'"),
        ({"train": {"on_nan": "x"}}, r"got 'x', input should be 'stop' or 'continue'"),
        ({"train": {"clip_norm": -1.0}}, r"train\.clip_norm: got -1\.0, "),
        ({"train": {"timeout_seconds": 0.0}}, r"timeout_seconds: got 0\.0, .*greater than 0"),
        # More than a wait for files can be told.
        ({"loading": {"timeout_seconds": 1e10}}, r"timeout_seconds: got 1.*less than or equal to"),
        ({"run": {"seed": -1}}, r"here: run\.seed: got -1, "),
        ({"run": {"seed": 2**63}}, r"here: run\.seed: got 9223372036854775808, "),
        ({"run": {"model": 3}}, r"here: run\.model: got 3, input should be a valid string"),
        ({"launch": {"workers": 0}}, r"here: launch\.workers: got 0, "),
        ({"launch": {"workers": 65537}}, r"launch\.workers: got 65537, .*less than or equal"),
        ({"launch": {"hosts": "a"}}, r"launch\.hosts: got 'a', input should be a valid list"),
        ({"launch": {"devices": [1]}}, r"launch\.devices: got 1, input should be a valid string"),
        ({"launch": {"launcher": "x"}}, r"got 'x', input should be 'auto', 'mpirun' or 'srun'"),
        ({"launch": {"grace_seconds": 4e3}}, r"grace_seconds: got 4000\.0, .*less than or equal"),
        ({"optimizer": {"learning_rate": 0.0}}, r"learning_rate: got 0\.0, .*greater than 0"),
        ({"optimizer": {"learning_rate": float("nan")}}, r"got nan, .*finite number"),
        ({"optimizer": {"learning_rate": float("inf")}}, r"got inf, .*finite number"),
        ({"optimizer": {"momentum": 1.0}}, r"optimizer\.momentum: got 1\.0, .*less than 1"),
        ({"optimizer": {"bias_rate_factor": 0.0}}, r"optimizer\.bias_rate_factor: got 0\.0, "),
        ({"optimizer": {"name": "adma"}}, r"optimizer\.name: got 'adma', input should be 'sgd', "),
        ({"schedule": {"milestones": [1, "a"]}}, r"schedule\.milestones: got 'a', .*valid number"),
        ({"schedule": {"gamma": -0.1}}, r"schedule\.gamma: got -0\.1, "),
        ({"checkpoint": {"keep_last": 0}}, r"checkpoint\.keep_last: got 0, "),
        ({"recorder": {"every_seconds": 0}}, r"recorder\.every_seconds: got 0, "),
        # Clashes between keys are nobody's alone: no layer is named.
        (
            {"optimizer": {"nesterov": True}},
            r"^optimizer: nesterov=true needs optimizer\.name='sgd'",
        ),
        (
            {"optimizer": {"name": "rmsprop", "momentum": 0.5, "nesterov": True}},
            r"^optimizer: nesterov=true needs .*'sgd' and optimizer\.momentum above 0",
        ),
        (
            {"optimizer": {"name": "rmsprop", "betas": [0.9, 0.99]}},
            r"^optimizer: betas are not a setting of rmsprop: use adam or adamw, or leave them at ",
        ),
        ({"optimizer": {"name": "adam", "betas": [0.9]}}, r"optimizer\.betas: got \[0\.9\], "),
        (
            {"optimizer": {"name": "adam", "momentum": 0.9}},
            r"^optimizer: momentum is not a setting of adam: use sgd or rmsprop",
        ),
        (
            {"optimizer": {"name": "rmsprop", "fused": True}},
            r"^optimizer: torch has no fused rmsprop: leave fused out",
        ),
        ({"schedule": {"name": "step"}}, r"^schedule: schedule\.name='step' needs schedule\.mile"),
        (
            {"schedule": {"horizon_epochs": 9.0, "name": "step", "milestones": [1.0]}},
            r"horizon_epochs is for schedule\.name='poly' or 'cosine', got 'step': set sched",
        ),
        (
            {"schedule": {"horizon_epochs": 9.5, "name": "poly"}},
            r"^schedule\.horizon_epochs=9\.5 comes before the end, train\.epochs=10: the learning",
        ),
        ({"schedule": {"milestones": [1]}}, r"milestones is for schedule\.name='step', got 'const"),
        (
            {"schedule": {"name": "step", "milestones": [2, 1]}},
            r"^schedule: schedule\.milestones must ascend, got \[2\.0, 1\.0\]",
        ),
    ],
)
def test_mistakes(layer, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve([("here", layer)])
    assert "\n" not in str(caught.value)


def test_the_layer_with_the_mistake_is_named():
    good, bad = {"train": {"steps": 5}}, {"train": {"epochs": 0}}
    with pytest.raises(UserError, match=r"^model: train\.epochs"):
        resolve([("model", bad), ("file", good)])
    with pytest.raises(UserError, match=r"^file: train\.epochs"):
        resolve([("model", good), ("file", bad)])
    with pytest.raises(UserError, match=r"^train\.epochs: got 0"):
        resolve([("model", good), ("", bad)])


def test_a_clash_may_be_settled_by_a_later_layer():
    layers = [
        ("model", {"schedule": {"name": "step"}}),
        ("file", {"schedule": {"milestones": [1.0]}}),
    ]
    assert resolve(layers).schedule.milestones == [1.0]


def test_nest():
    assert nest({"train.epochs": 5, "train.steps": 1, "run.seed": 2}, "x") == {
        "train": {"epochs": 5, "steps": 1},
        "run": {"seed": 2},
    }


@pytest.mark.parametrize("name", ["epochs", "train.", ""])
def test_nest_needs_a_section_and_a_key(name):
    with pytest.raises(UserError, match=r"x: got .*, expected section\.key, such as train\.epochs"):
        nest({name: 1}, "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.1", 0.1),
        ("1e-4", 1e-4),
        ("true", True),
        ("True", "True"),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("sgd", "sgd"),
        ("a=b", "a=b"),
        ("", ""),
        ("imagefolder:/d,skip_bad=true", "imagefolder:/d,skip_bad=true"),
    ],
)
def test_values_of_set(text, value):
    assert parse_set([f" a.b ={text}"]) == {"a": {"b": value}}


def test_the_last_set_counts():
    assert parse_set(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.epochs", r"--set: got 'train\.epochs', expected section\.key=value"),
        ("epochs=3", r"--set: got 'epochs', expected section\.key, such as train\.epochs"),
        ("=3", r"--set: got '', expected section\.key"),
    ],
)
def test_set_that_is_wrong(text, message):
    with pytest.raises(UserError, match=message):
        parse_set([text])


def test_a_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[train]\nepochs = 7\n[launch]\nhosts = ['a:1']\n")
    assert read_file(path) == {"train": {"epochs": 7}, "launch": {"hosts": ["a:1"]}}


def test_files_that_are_wrong(tmp_path):
    with pytest.raises(UserError, match=r"no config file '.*nothing\.toml'"):
        read_file(tmp_path / "nothing.toml")
    with pytest.raises(UserError, match=r"config file '.*' cannot be read: .*directory"):
        read_file(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"bytes\.toml' cannot be read: .*utf-8"):
        read_file(tmp_path / "bytes.toml")
    (tmp_path / "no.toml").write_text("[train\n")
    with pytest.raises(UserError, match=r"no\.toml' is not TOML: .*line 1") as caught:
        read_file(tmp_path / "no.toml")
    assert "\n" not in str(caught.value)


def test_round_trip(tmp_path):
    settings = resolve(
        [
            ("", {"run": {"model": 'quote".py:Ünï', "seed": 2**63 - 1}}),
            ("", {"launch": {"hosts": ["a:1"], "devices": [], "mpirun_arguments": ["-x", "A\\B"]}}),
            ("", {"schedule": {"name": "step", "milestones": [1.5, 2.0]}}),
            ("", {"optimizer": {"learning_rate": 1e-17}}),
        ]
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert resolve([(str(path), read_file(path))]) == settings


@given(
    rate=st.floats(min_value=1e-300, max_value=1e300),
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    milestones=st.lists(st.floats(0, 1e6), min_size=1).map(sorted),
)
def test_any_settings_survive_a_file(rate, text, milestones, tmp_path_factory):
    settings = resolve(
        [
            ("", {"run": {"data": text}, "optimizer": {"learning_rate": rate}}),
            ("", {"schedule": {"name": "step", "milestones": milestones}}),
        ]
    )
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(to_toml(settings), encoding="utf-8", newline="")
    assert resolve([("", read_file(path))]) == settings


def test_every_setting_is_explained():
    for name, section in Settings.model_fields.items():
        for key, field in section.annotation.model_fields.items():
            assert field.description, f"{name}.{key}"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    depth: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner = Inner()
    other: Inner | None = None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"inner": {"dept": 1}},
            "unknown key in [inner] 'dept': did you mean 'depth'? known: depth",
        ),
        (
            {"other": {"dept": 1}},
            "unknown key in [other] 'dept': did you mean 'depth'? known: depth",
        ),
        ({"iner": {}}, "unknown section 'iner': did you mean 'inner'? known: inner, other"),
        ({"inner": {"depth": "x"}}, "inner.depth: got 'x', input should be a valid integer"),
    ],
)
def test_one_line(value, message):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    line = one_line(caught.value, Outer, prefix="p: ")
    assert line.startswith(f"p: {message}")
    assert "\n" not in line


def test_one_line_of_a_model_without_sections():
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"dept": 1})
    assert one_line(caught.value, Inner) == "unknown key 'dept': did you mean 'depth'? known: depth"
