"""Theano-MPI's session.cfg: parsed, never executed."""

from __future__ import annotations

import pytest

from arignote.config.load import nest, read_file, resolve
from arignote.config.model_source import find_model
from arignote.config.session_cfg import device_settings, model_spec, read_session_cfg
from arignote.errors import UserError

WHOLE = """\
# the session of a lab
RULE=BSP
MODELFILE=my_models/alex_net.py
MODELCLASS=AlexNet
DEVICES=cuda0,cuda1   # both cards
BSP_SYNC_TYPE=avg
BSP_EXCH_STRATEGY=ar
"""


def test_a_whole_file(tmp_path):
    path = tmp_path / "session.cfg"
    path.write_text(WHOLE)
    layer = read_file(path)
    assert layer == {
        "run": {
            "model": "my_models/alex_net.py:AlexNet",
            "rule": "bsp:scheme=weights",
            "exchange": "ar",
        },
        "launch": {"devices": ["cuda:0", "cuda:1"], "workers": 2},
    }
    assert resolve([(str(path), layer)]).launch.workers == 2


@pytest.mark.parametrize(
    ("text", "model", "rule"),
    [
        (
            "RULE=BSP\nMODELFILE=theanompi.models.alex_net\nMODELCLASS=AlexNet\nSIZE=2\n"
            "DEVICES=cuda0,cuda1\n",
            "alexnet",
            "bsp",
        ),
        (
            "RULE=BSP\nBSP_SYNC_TYPE=avg\nMODELCLASS=ResNet50\n"
            "MODELFILE=theanompi.models.lasagne_model_zoo.resnet50\nDEVICES=cuda0,cuda1\n",
            "resnet50",
            "bsp:scheme=weights",
        ),
    ],
)
def test_a_session_of_theano_mpi(text, model, rule):
    layer = read_session_cfg(text, "s")
    source = find_model(layer["run"]["model"])
    assert source == find_model(model)
    settings = resolve([("model", nest(source.defaults, model)), ("s", layer)])
    assert (settings.run.rule, settings.launch.workers) == (rule, 2)
    assert settings.train.epochs == source.defaults["train.epochs"]


def test_nothing_but_comments():
    assert read_session_cfg("\n# nothing\n\n", "s") == {"run": {"rule": "bsp"}, "launch": {}}


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("cuda0", {"devices": ["cuda:0"], "workers": 1}),
        ("cuda:0,cuda:1", {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        ("cpu0,cpu1", {"devices": ["cpu", "cpu"], "workers": 2}),
        ("'cuda0,cuda1'", {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        ('"cuda0,cuda1"', {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        ("('cuda0,cuda1')", {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        ("(cuda0 cuda1)", {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        ("cuda0,cuda1,", {"devices": ["cuda:0", "cuda:1"], "workers": 2}),
        (
            "('host1:cuda0,cuda1' 'host2:cuda0')",
            {
                "devices": ["cuda:0", "cuda:1", "cuda:0"],
                "workers": 3,
                "hosts": ["host1:2", "host2:1"],
            },
        ),
        (
            "(host1:cuda:0,cuda:1, host2:cpu)",
            {
                "devices": ["cuda:0", "cuda:1", "cpu"],
                "workers": 3,
                "hosts": ["host1:2", "host2:1"],
            },
        ),
        (
            "(\n  'host1:cuda0'   # the old one\n\n  'host2:cuda0'\n)",
            {"devices": ["cuda:0", "cuda:0"], "workers": 2, "hosts": ["host1:1", "host2:1"]},
        ),
        ("()", {"devices": [], "workers": 1}),
    ],
)
def test_forms_of_devices(devices, expected):
    assert read_session_cfg(f"DEVICES={devices}\nRULE=BSP", "s")["launch"] == expected


def test_a_comment_may_hold_a_parenthesis():
    layer = read_session_cfg("# devices (one a worker\nRULE=GOSGD\nDEVICES=(cuda0 cuda1)\n", "s")
    assert layer["run"]["rule"] == "gosgd"
    assert layer["launch"]["workers"] == 2


@pytest.mark.parametrize(
    "line", ["RULE=BSP", "export RULE=BSP", "  RULE='BSP'", 'RULE="BSP" # so', "RULE= BSP "]
)
def test_forms_of_an_assignment(line):
    assert read_session_cfg(line, "s")["run"]["rule"] == "bsp"


@pytest.mark.parametrize("rule", ["EASGD", "ASGD"])
@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("cuda0,cuda1,cuda2", {"devices": ["cuda:1", "cuda:2"], "workers": 2}),
        ("(cuda2 cuda0)", {"devices": ["cuda:0"], "workers": 1}),
        (
            # The server is the last process: so its host comes last, with what it has besides.
            "('a:cuda0,cuda1' 'b:cuda0,cuda1')",
            {
                "devices": ["cuda:0", "cuda:1", "cuda:1"],
                "workers": 3,
                "hosts": ["b:2", "a:2"],
            },
        ),
        (
            "('a:cuda0' 'a:cuda1' 'b:cpu')",
            {"devices": ["cpu", "cuda:1"], "workers": 2, "hosts": ["b:1", "a:2"]},
        ),
    ],
)
def test_the_first_device_is_the_servers(rule, devices, expected):
    layer = read_session_cfg(f"DEVICES={devices}\nRULE={rule}", "s")
    assert layer["launch"] == expected | {"servers": 1}
    assert layer["run"]["rule"] == rule.lower()


def test_a_server_and_no_worker():
    for devices in ("cuda0", "a:cuda0", "()"):
        with pytest.raises(UserError, match=r"the first is the server's, and that leaves none for"):
            read_session_cfg(f"RULE=EASGD\nDEVICES={devices}", "s")


def test_the_last_assignment_counts():
    assert read_session_cfg("RULE=BSP\nRULE=EASGD", "s")["run"]["rule"] == "easgd"


@pytest.mark.parametrize(
    ("sync", "rule"),
    [
        ("cdd", "bsp:scheme=gradient"),
        ("avg", "bsp:scheme=weights"),
        ("swap", "swap"),
        ("", "bsp"),
    ],
)
def test_sync_types(sync, rule):
    assert read_session_cfg(f"BSP_SYNC_TYPE={sync}", "s")["run"]["rule"] == rule


def test_the_sync_type_of_another_rule_is_left_alone():
    assert read_session_cfg("RULE=GOSGD\nBSP_SYNC_TYPE=cdd", "s")["run"]["rule"] == "gosgd"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RULE=BSP\ntmlauncher", r"s: 'tmlauncher' in line 2 is no KEY=value"),
        ("#\n\nRULE BSP", r"s: 'RULE BSP' in line 3 is no KEY=value"),
        ("DEVICES=(\ncuda0\n)\nfoo bar", r"s: 'foo bar' in line 4 is no KEY=value"),
        ("DEVICE=cuda0", r"s: unknown key 'DEVICE': did you mean 'DEVICES'\? known: BSP_EXCH"),
        ("BSP_SYNC_TYPE=cda", r"s: unknown BSP_SYNC_TYPE 'cda': did you mean 'cdd'\?"),
        ("DEVICES=gpu0", r"got device 'gpu0', expected cpu, cuda or cuda:N"),
        ("DEVICES=('host1:gpu0')", r"got device 'gpu0'"),
        ("DEVICES='cuda0", r"s: DEVICES='cuda0 cannot be split: no closing quotation"),
        ("DEVICES=(cuda0 cuda1", r"got device '\(cuda0'"),
        (
            "MODELFILE=a.py",
            r"a model needs a file and a class: got modelfile='a.py', modelclass=''",
        ),
        ("MODELCLASS=Net", r"got modelfile='', modelclass='Net'"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_session_cfg(text, "s")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "MODELFILE={}\nMODELCLASS=Net",
        "RULE={}",
        "BSP_EXCH_STRATEGY={}",
        "DEVICES={}",
        "{}",
        "export RULE={}",
    ],
)
@pytest.mark.parametrize("form", ["$(touch {})", "`touch {}`", "x; touch {}", '"$(touch {})"'])
def test_nothing_is_ever_executed(template, form, tmp_path):
    trap = tmp_path / "trap"
    try:
        layer = read_session_cfg(template.format(form.format(trap)), "s")
    except UserError:
        layer = None
    assert not trap.exists()
    if layer is not None:
        assert "touch" in str(layer).lower()


def test_model_spec():
    assert model_spec("a/b.py", "Net") == "a/b.py:Net"
    assert model_spec("pkg.mod", "Net") == "pkg.mod:Net"


def test_device_settings_of_an_empty_list():
    assert device_settings([]) == {"devices": [], "workers": 1}
