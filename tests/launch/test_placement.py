"""Who runs where: hosts, hostfiles, devices, threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch import placement
from arignote.launch.hosts import Host, parse_host, read_hostfile
from arignote.launch.placement import Placement, launch_layer, place, usable_cores
from arignote.topology.gpus import TorchBuild
from arignote.topology.machine import Machine

CPU = TorchBuild("2.9+cpu", "", "")
CUDA = TorchBuild("2.9+cu128", "12.8", "")


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(placement, "usable_cores", lambda: 8)


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch is built for CUDA, and would see so many GPUs here."""

    def have(count, build=CUDA):
        monkeypatch.setattr(placement, "torch_build", lambda: build)
        monkeypatch.setattr(placement, "visible_gpus", lambda build: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return have


def test_usable_cores():
    assert 1 <= usable_cores() <= 65536


def test_two_threads_of_a_core_are_one_core_also_where_others_are_not_ours(tmp_path, monkeypatch):
    for cpu in range(8):
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(placement, "Machine", lambda: Machine(tmp_path))
    monkeypatch.setattr(placement, "allowed_cpus", lambda: frozenset((0, 1, 4, 5)))
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("node1", Host("node1", 1)),
        ("node1:4", Host("node1", 4)),
        (" n-1.site_a.org:12 ", Host("n-1.site_a.org", 12)),
        ("10.0.0.1:2", Host("10.0.0.1", 2)),
    ],
)
def test_hosts(text, host):
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", ":4", "a:", "a:0", "a:x", "a:-1", "a b", "-a", "a:4:4", "a;b"]
)
def test_hosts_that_are_none(text):
    with pytest.raises(UserError) as caught:
        parse_host(text)
    assert str(caught.value) == (f"got host {text!r}, expected name or name:slots, such as node1:4")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a slots=4\nb slots=2\n", [Host("a", 4), Host("b", 2)]),
        ("a slots=4 max_slots=8\nb max-slots=8\n", [Host("a", 4), Host("b", 1)]),
        ("a:4\nb:2", [Host("a", 4), Host("b", 2)]),
        ("a\nb\n", [Host("a", 1), Host("b", 1)]),
        ("a 4\nb 2\n", [Host("a", 4), Host("b", 2)]),
        ("# all\n\n a slots=4 # big\n#b\n", [Host("a", 4)]),
        ("a\na\nb\na\n", [Host("a", 3), Host("b", 1)]),
        ("a:2\na slots=3\n", [Host("a", 5)]),
    ],
)
def test_hostfiles(text, hosts, tmp_path):
    path = tmp_path / "hosts"
    path.write_text(text)
    assert read_hostfile(path) == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb slots=x\n", r"hosts', line 2: got 'b slots=x', expected NAME slots=N or NAME:N"),
        ("a:4:5\n", r"hosts', line 1: got 'a:4:5'"),
        ("a slots=0\n", r"hosts', line 1: got 'a slots=0', expected at least 1 slot"),
        ("a:0\n", r"hosts', line 1: got 'a:0', expected at least 1 slot"),
        ("", r"hosts' names no host"),
        ("# a\n\n", r"hosts' names no host"),
    ],
)
def test_hostfiles_that_are_wrong(text, message, tmp_path):
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_hostfile(path)


def test_hostfiles_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"hostfile '.*none' cannot be read: .*No such file"):
        read_hostfile(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"bytes' cannot be read: .*utf-8"):
        read_hostfile(tmp_path / "bytes")


def layer(**given):
    return launch_layer(
        **{"workers": None, "servers": None, "devices": None, "hosts": None, "hostfile": None}
        | given
    )


def test_the_command_lines_layer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text("a slots=2\nb\n")
    assert layer() == {}
    assert layer(workers=3) == {"workers": 3}
    assert layer(devices="cuda0,cpu") == {"devices": ["cuda:0", "cpu"], "workers": 2}
    # One without a number is every worker's, however many there are.
    assert layer(devices="cuda") == {"devices": ["cuda"]}
    assert layer(devices="cuda", hosts="a:4") == {
        "devices": ["cuda"],
        "hosts": ["a:4"],
        "workers": 4,
    }
    assert layer(devices="cuda:1") == {"devices": ["cuda:1"], "workers": 1}
    assert layer(devices="cpu,cpu", workers=3) == {"devices": ["cpu", "cpu"], "workers": 3}
    assert layer(hosts="a:4,b") == {"hosts": ["a:4", "b:1"], "workers": 5}
    assert layer(hosts="a:4,b", servers=2) == {"hosts": ["a:4", "b:1"], "servers": 2, "workers": 3}
    assert layer(workers=2, servers=0) == {"workers": 2, "servers": 0}
    assert layer(hosts="a:4,b", workers=2) == {"hosts": ["a:4", "b:1"], "workers": 2}
    hostfile = str(tmp_path / "hosts")
    # The file's hosts count, not those of a lower layer.
    assert layer(hostfile="hosts") == {"hostfile": hostfile, "hosts": [], "workers": 3}
    assert layer(hostfile="hosts", hosts="c:7") == {
        "hosts": ["c:7"],
        "hostfile": hostfile,
        "workers": 7,
    }


def test_the_command_lines_mistakes(tmp_path):
    with pytest.raises(UserError, match="got device 'gpu'"):
        layer(devices="cpu,gpu")
    with pytest.raises(UserError, match="got host ''"):
        layer(hosts="a:4,")
    with pytest.raises(UserError, match="cannot be read"):
        layer(hostfile=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Placement(1, (), threads=8, fits=True)),
        ({"workers": 2}, Placement(2, (), threads=4, fits=True)),
        ({"workers": 3}, Placement(3, (), threads=2, fits=True)),
        ({"workers": 8}, Placement(8, (), threads=1, fits=True)),
        ({"workers": 9}, Placement(9, (), threads=1, fits=False)),
        ({"workers": 2, "threads": 4}, Placement(2, (), threads=4, fits=True)),
        ({"workers": 2, "threads": 5}, Placement(2, (), threads=5, fits=False)),
        (
            {"workers": 4, "hosts": ["a:2", "b:2"]},
            Placement(4, (Host("a", 2), Host("b", 2)), threads=4, fits=True),
        ),
        (
            {"workers": 5, "hosts": ["a:4", "b"]},
            Placement(5, (Host("a", 4), Host("b", 1)), threads=2, fits=True),
        ),
        (
            {"workers": 4, "hosts": ["a:2", "a:2"]},
            Placement(4, (Host("a", 4),), threads=2, fits=True),
        ),
        (
            {"workers": 9, "hosts": ["a:9"]},
            Placement(9, (Host("a", 9),), threads=1, fits=False),
        ),
        ({"workers": 2, "devices": ["cpu"]}, Placement(2, (), threads=4, fits=True)),
        ({"workers": 2, "devices": ["cpu", "cpu0"]}, Placement(2, (), threads=4, fits=True)),
    ],
)
def test_placements(settings, expected):
    assert place(Launch(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "centre", "expected"),
    [
        ({"workers": 2, "servers": 1}, True, Placement(2, (), 4, False, 1)),
        ({"workers": 2, "servers": 1}, None, Placement(2, (), 4, False, 1)),
        # A launcher that binds gives each process as many cores, also a server.
        ({"workers": 2, "servers": 1, "threads": 2}, True, Placement(2, (), 2, True, 1)),
        ({"workers": 3, "servers": 1}, True, Placement(3, (), 2, True, 1)),
        ({"workers": 2}, True, Placement(2, (), 4, True, 0)),
        ({"workers": 2, "servers": 0}, False, Placement(2, (), 4, True, 0)),
    ],
)
def test_servers(settings, centre, expected):
    assert place(Launch(**settings), centre=centre) == expected


@pytest.mark.parametrize(
    ("settings", "centre", "servers"),
    [
        ({"workers": 3, "hosts": ["a:2", "b:2"]}, True, 1),
        ({"workers": 3, "hosts": ["a:2", "b:2"], "servers": 0}, True, 0),
        # No slot to spare, one host, one worker, no centre, or not known: none by itself.
        ({"workers": 4, "hosts": ["a:2", "b:2"]}, True, 0),
        ({"workers": 2, "hosts": ["a:4"]}, True, 0),
        ({"workers": 1, "hosts": ["a:2", "b:2"]}, True, 0),
        ({"workers": 3, "hosts": ["a:2", "b:2"]}, False, 0),
        ({"workers": 3, "hosts": ["a:2", "b:2"]}, None, 0),
    ],
)
def test_a_server_by_itself_where_hosts_have_room(settings, centre, servers):
    placed = place(Launch(**settings), centre=centre)
    assert placed.servers == servers
    assert placed.processes == placed.workers + servers
    assert placed.threads == 8 // max(host.slots for host in placed.hosts)


@pytest.mark.parametrize(
    ("settings", "centre", "message"),
    [
        ({"workers": 2, "servers": 1}, False, r"^1 server for a rule that has no centre: use --s"),
        ({"workers": 2, "servers": 3}, False, r"^3 servers for a rule that has no centre"),
        ({"workers": 1, "servers": 1}, True, r"^1 server for one worker, who meets nobody there"),
        ({"workers": 1, "servers": 2}, None, r"^2 servers for one worker"),
        (
            {"workers": 3, "servers": 2, "hosts": ["a:2", "b:2"]},
            True,
            r"^3 workers and 2 servers but only 4 slots on 2 hosts: use -n 2, or give the hosts",
        ),
        (
            {"workers": 2, "servers": 60000},
            True,
            r"^60002 workers and servers on one host need at least 12000 GiB, but .* at most$",
        ),
    ],
)
def test_servers_that_do_not_fit(settings, centre, message):
    with pytest.raises(UserError, match=message):
        place(Launch(**settings), centre=centre)


def test_a_hostfile_is_read_unless_hosts_are_named(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("a slots=2\n")
    assert place(Launch(workers=2, hostfile=str(path))).hosts == (Host("a", 2),)
    assert place(Launch(workers=2, hostfile=str(path), hosts=["b:2"])).hosts == (Host("b", 2),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"workers": 4, "hosts": ["a:2", "b"]},
            r"4 workers but only 3 slots on 2 hosts: use -n 3, or give the hosts more",
        ),
        (
            {"workers": 2, "devices": ["cuda:0"]},
            r"^1 device for 2 workers: name one device a worker, or cuda alone, which shares",
        ),
        ({"workers": 1, "devices": ["cpu", "cpu"]}, r"^2 devices for 1 worker: "),
        ({"workers": 1, "devices": ["gpu"]}, r"got device 'gpu', expected cpu, cuda"),
        ({"workers": 1, "hosts": ["a:b"]}, r"got host 'a:b'"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(UserError, match=message):
        place(Launch(**settings))


def test_cuda_on_a_machine_without(gpus):
    gpus(0)
    for device in ("cuda:0", "cuda"):
        with pytest.raises(
            UserError, match=rf"^device {device} cannot be used on this machine: its"
        ):
            place(Launch(workers=1, devices=[device]))


def test_cuda_with_a_torch_for_cpus(gpus):
    gpus(4, build=CPU)
    message = (
        r"^device cuda cannot be used on this machine: its torch \(2\.9\+cpu\) is built without"
    )
    with pytest.raises(UserError, match=message):
        place(Launch(workers=2, devices=["cuda"]))
    gpus(4, build=None)
    with pytest.raises(UserError, match=r"its torch \(none\) is built without CUDA"):
        place(Launch(workers=2, devices=["cuda"]))


def test_cuda_on_a_machine_with_two(gpus, monkeypatch):
    gpus(2)
    assert place(Launch(workers=3, devices=["cuda:0", "cuda1", "cpu"])).workers == 3
    # By their place on the host: more workers than GPUs.
    assert place(Launch(workers=5, devices=["cuda"])).workers == 5
    message = r"^device cuda:2 does not exist: this machine has 2 GPUs; use --devices cuda, which"
    with pytest.raises(UserError, match=message):
        place(Launch(workers=1, devices=["cuda:2"]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match=r"2 GPUs \(CUDA_VISIBLE_DEVICES='0,1'\); use"):
        place(Launch(workers=1, devices=["cuda:2"]))


def test_what_cannot_be_counted_is_let_pass(gpus):
    gpus(None)
    assert place(Launch(workers=1, devices=["cuda:3"])).workers == 1


def test_other_hosts_may_have_other_cards(gpus):
    gpus(0)
    assert place(Launch(workers=1, hosts=["a:1"], devices=["cuda:3"])).workers == 1


def test_more_workers_than_memory():
    with pytest.raises(UserError, match=r"60000 workers on one host need at least 12000 GiB, but"):
        place(Launch(workers=60000))


def test_more_tasks_than_cores_in_an_allocation_share_them(monkeypatch, tmp_path):
    nodes = tmp_path / "nodes"
    for tasks, threads, fits in ((4, 2, True), (8, 1, True), (9, 1, False)):
        nodes.write_text("a\n" * tasks)
        monkeypatch.setenv("PBS_JOBID", "9.server")
        monkeypatch.setenv("PBS_NODEFILE", str(nodes))
        placed = place(Launch(workers=tasks), centre=False)
        assert (placed.threads, placed.fits) == (threads, fits)
