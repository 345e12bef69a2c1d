"""What schedulers say of the hosts that they give, without any scheduler."""

from __future__ import annotations

import pytest

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch import placement
from arignote.launch.allocation import (
    Allocation,
    allocation_layer,
    find_allocation,
    refuse_inside_srun,
)
from arignote.launch.hosts import Host
from arignote.launch.placement import place
from arignote.launch.slurm_lists import expand_counts, expand_nodes

SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NODELIST": "n[1-4]",
    "SLURM_TASKS_PER_NODE": "2(x3),1",
    "SLURM_JOB_CPUS_PER_NODE": "8(x3),4",
    "SLURM_NTASKS": "7",
}


@pytest.fixture
def slurm(monkeypatch):
    """slurm(NAME=value, ...): let us run in an allocation of `SLURM`, with these changes."""

    def allocate(**changes):
        for name, value in (SLURM | changes).items():
            monkeypatch.setenv(name, value)
            if value is None:
                monkeypatch.delenv(name)

    return allocate


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node7", ["node7"]),
        ("a,b.c", ["a", "b.c"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12],gpu1", ["n08", "n09", "n10", "n12", "gpu1"]),
        ("r[1-2]n[01,3]-ib", ["r1n01-ib", "r1n3-ib", "r2n01-ib", "r2n3-ib"]),
    ],
)
def test_names_of_nodes(text, names):
    assert expand_nodes(text) == names


@pytest.mark.parametrize("text", ["", "n[1-", "n[a]", "n[1-2-3]", "n]1"])
def test_names_that_are_none(text):
    with pytest.raises(UserError, match=r"SLURM_JOB_NODELIST is .*expected names such as n\[1-4\]"):
        expand_nodes(text)


def test_counts():
    assert expand_counts("2(x3),1", "X", 4) == (2, 2, 2, 1)
    assert expand_counts("72", "X", 1) == (72,)
    assert expand_counts("2(x1),1", "X", 2) == (2, 1)
    with pytest.raises(UserError, match=r"X is '2\(3\)', expected numbers such as 2\(x3\),1"):
        expand_counts("2(3)", "X", 3)
    with pytest.raises(UserError, match=r"X is '2,1', which is for 2 hosts, but .* has 3: name"):
        expand_counts("2,1", "X", 3)


def test_slurm():
    found = find_allocation(SLURM)
    assert found is not None
    assert (found.scheduler, found.job, found.slots) == ("Slurm", "12", 7)
    assert found.hosts == (Host("n1", 2), Host("n2", 2), Host("n3", 2), Host("n4", 1))
    assert found.cores == (8, 8, 8, 4)


def test_a_slurm_that_says_little():
    found = find_allocation({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a,b"})
    assert found == Allocation("Slurm", "1", (Host("a", 1), Host("b", 1)), (), tasks_given=False)
    assert found.cores_for(found.hosts) is None
    assert find_allocation({"SLURM_JOB_NODELIST": "a"}) is None
    assert find_allocation({}) is None


def test_a_heterogeneous_job_is_refused():
    # In salloc there is no list of all nodes; in sbatch it is that of the first part.
    for told in ({"SLURM_JOB_ID": "12"}, SLURM):
        message = r"Slurm job 12 is heterogeneous \(2 parts\), .*: ask for all tasks in one, "
        with pytest.raises(UserError, match=message):
            find_allocation(told | {"SLURM_HET_SIZE": "2"})
    assert find_allocation(SLURM | {"SLURM_HET_SIZE": "1"}) is not None


def test_cores_a_task_are_kept_to():
    found = find_allocation(SLURM | {"SLURM_CPUS_PER_TASK": "3"})
    assert found.cores_for(found.hosts) == 3


def test_the_hosts_that_are_used_are_filled_in_order():
    found = find_allocation(SLURM)
    assert found.hosts_for(3) == (Host("n1", 2), Host("n2", 1))
    assert found.cores_for(found.hosts_for(3)) == 4
    assert found.hosts_for(7) == found.hosts
    with pytest.raises(UserError, match=r"8 workers but Slurm job 12 has 7 slots: use -n 7, or"):
        found.hosts_for(8)


def test_where_no_tasks_were_asked_for_there_is_one_a_core():
    found = find_allocation(
        {
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_TASKS_PER_NODE": "1(x2)",
            "SLURM_JOB_CPUS_PER_NODE": "4(x2)",
        }
    )
    assert found.slots == 2
    assert found.hosts_for(6) == (Host("n1", 4), Host("n2", 2))
    with pytest.raises(UserError, match=r"9 workers but Slurm job 12 has 8 slots"):
        found.hosts_for(9)


def test_lsf_by_its_file(tmp_path):
    (tmp_path / "hosts").write_text("a\na\nb\n")
    told = {"LSB_JOBID": "7", "LSB_DJOB_HOSTFILE": str(tmp_path / "hosts"), "LSB_MCPU_HOSTS": "x 1"}
    assert find_allocation(told) == Allocation("LSF", "7", (Host("a", 2), Host("b", 1)))


def test_lsf_by_its_variable():
    found = find_allocation({"LSB_JOBID": "7", "LSB_MCPU_HOSTS": "a 4 b 2"})
    assert found == Allocation("LSF", "7", (Host("a", 4), Host("b", 2)))
    for text in ("a 4 b", "a four"):
        with pytest.raises(UserError, match=r"LSB_MCPU_HOSTS is .*, expected HOST COUNT HOST"):
            find_allocation({"LSB_MCPU_HOSTS": text})


def test_pbs(tmp_path):
    file = tmp_path / "nodes"
    file.write_text("a\nb\na\n")
    told = {"PBS_JOBID": "9.server", "PBS_NODEFILE": str(file)}
    assert find_allocation(told) == Allocation("PBS", "9.server", (Host("a", 2), Host("b", 1)))
    found = find_allocation(told | {"NCPUS": "4"})
    assert found.slots == 3
    assert found.hosts_for(6) == (Host("a", 4), Host("b", 2))
    file.write_text("\n")
    with pytest.raises(UserError, match=r"PBS_NODEFILE names .*, which names no host: use --hosts"):
        find_allocation(told)
    file.unlink()
    with pytest.raises(UserError, match=r"PBS_NODEFILE names .*, which cannot be read: .*No such"):
        find_allocation(told)


def test_srun_before_us_is_refused():
    with pytest.raises(UserError, match=r"srun has started this command 4 times: leave out srun"):
        refuse_inside_srun({"SLURM_STEP_NUM_TASKS": "4"})
    refuse_inside_srun({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PTY_PORT": "1"})
    refuse_inside_srun({"SLURM_STEP_NUM_TASKS": "1"})
    refuse_inside_srun({})


class TestLayer:
    def test_a_worker_a_slot(self, slurm):
        slurm()
        assert allocation_layer([{}], {}) == {"launch": {"workers": 7}}

    def test_servers_take_slots_of_the_workers(self, slurm):
        slurm()
        one, two = ({"launch": {"servers": count}} for count in (1, 2))
        assert allocation_layer([one, {}], {}) == {"launch": {"workers": 6}}
        assert allocation_layer([one, two], {}) == {"launch": {"workers": 5}}
        assert allocation_layer([{}], two) == {"launch": {"workers": 5}}
        message = r"servers=7 leaves no slot of Slurm job 12 for a worker \(it has 7\): use fewer"
        with pytest.raises(UserError, match=message):
            allocation_layer([{"launch": {"servers": 7}}], {})

    def test_what_is_asked_for_wins(self, slurm):
        slurm()
        devices = ({"devices": ["cuda:0"]}, {"devices": ["cuda", "cpu"]})
        for asked in ({"workers": 2}, {"hosts": ["a"]}, {"hostfile": "f"}, *devices):
            assert allocation_layer([{}, {"launch": asked}], {}) == {}

    def test_a_kind_of_device_says_nothing_of_the_number(self, slurm):
        slurm()
        seven = {"launch": {"workers": 7}}
        assert allocation_layer([{"launch": {"devices": ["cuda"]}}], {}) == seven
        # A mistake in a file is told of later.
        for devices in (["cuda", 1], "cuda", 3):
            assert allocation_layer([{"launch": {"devices": devices}}], {}) == seven

    def test_a_run_that_goes_on_takes_the_workers_of_now(self, slurm):
        slurm()
        before = {"launch": {"workers": 2, "hosts": []}}
        assert allocation_layer([{}], before) == {"launch": {"workers": 7}}
        assert allocation_layer([{}], {"launch": {"hosts": ["a"]}}) == {}

    def test_without_an_allocation(self):
        assert allocation_layer([{}], {}) == {}


class TestPlace:
    def test_workers_are_placed_where_they_are_allocated(self, slurm):
        slurm()
        placed = place(Launch(workers=7))
        assert [host.slots for host in placed.hosts] == [2, 2, 2, 1]
        assert (placed.threads, placed.fits) == (4, True)

    def test_threads_that_do_not_fit(self, slurm):
        slurm()
        placed = place(Launch(workers=7, threads=8))
        assert (placed.threads, placed.fits) == (8, False)

    def test_cores_that_nobody_knows_are_those_of_here(self, slurm, monkeypatch):
        monkeypatch.setattr(placement, "usable_cores", lambda: 6)
        slurm(SLURM_JOB_CPUS_PER_NODE="")
        assert place(Launch(workers=7)).threads == 3

    def test_a_server_takes_a_slot_to_spare(self, slurm):
        slurm()
        assert place(Launch(workers=6), centre=True).servers == 1
        assert place(Launch(workers=7), centre=True).servers == 0
        message = r"7 workers and 1 server but Slurm job 12 has 7 slots: use -n 6,"
        with pytest.raises(UserError, match=message):
            place(Launch(workers=7, servers=1), centre=True)

    def test_hosts_that_are_named_win(self, slurm):
        slurm()
        assert place(Launch(workers=1, hosts=["x:2"])).hosts == (Host("x", 2),)

    def test_devices_are_counted(self, slurm):
        slurm()
        with pytest.raises(UserError, match=r"2 devices for 3 workers: name one device a worker"):
            place(Launch(workers=3, devices=["cuda:0", "cuda:1"]))
