"""Each launcher's command line, and how we read what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arignote.config.settings import Launch
from arignote.launch import placement
from arignote.launch.flavours.base import Death, Job
from arignote.launch.flavours.direct import Direct
from arignote.launch.flavours.mpich import MPICH, IntelMPI
from arignote.launch.flavours.openmpi import OpenMPI
from arignote.launch.flavours.slurm import Slurm
from arignote.launch.placement import place
from arignote.launch.prepare import prepare
from arignote.launch.supervise import Supervisor

LOCAL = {"workers": 2}
FULL = {"workers": 5}
TWO_HOSTS = {"workers": 4, "hosts": ["a:2", "b:2"]}
UNEQUAL = {"workers": 4, "hosts": ["a:3", "b:2"]}


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(placement, "usable_cores", lambda: 4)


def job(settings, **more):
    return Job(
        program="/mpi/run",
        placement=place(Launch(**settings)),
        command=("py", "-m", "w"),
        environment={"PATH": "/p", "ARIGNOTE_WORKERS": "4"},
        **({"bind": True} | more),
    )


FRAGMENT = "btl_tcp_rdma_pipeline_frag_size"

ARGV = [
    (OpenMPI(), LOCAL, {}, "-n 2 --mca btl ^ofi --map-by slot:PE=2 --bind-to core"),
    (OpenMPI(), LOCAL, {"bind": False}, "-n 2 --mca btl ^ofi --bind-to none --oversubscribe"),
    (
        OpenMPI(),
        LOCAL,
        {"extra": ("--tag", "1")},
        "-n 2 --mca btl ^ofi --map-by slot:PE=2 --bind-to core --tag 1",
    ),
    (
        OpenMPI(),
        FULL,
        {},
        "-n 5 --mca btl ^ofi --mca mpi_yield_when_idle 1 --bind-to none --oversubscribe",
    ),
    (
        OpenMPI(),
        FULL,
        {"as_root": True},
        "-n 5 --allow-run-as-root --mca btl ^ofi --mca mpi_yield_when_idle 1 "
        "--bind-to none --oversubscribe",
    ),
    (
        OpenMPI(),
        TWO_HOSTS,
        {},
        "-n 4 --host a:2,b:2 -x PATH -x ARIGNOTE_WORKERS --map-by slot:PE=2 --bind-to core",
    ),
    (
        OpenMPI(),
        UNEQUAL,
        {},
        "-n 4 --host a:3,b:2 -x PATH -x ARIGNOTE_WORKERS --map-by slot:PE=1 --bind-to core",
    ),
    (
        OpenMPI(),
        TWO_HOSTS,
        {"tune_ethernet": True},
        "-n 4 --host a:2,b:2 -x PATH -x ARIGNOTE_WORKERS "
        f"--mca {FRAGMENT} 131072 "
        "--map-by slot:PE=2 --bind-to core",
    ),
    (
        OpenMPI(),
        LOCAL,
        {"tune_ethernet": True},
        "-n 2 --mca btl ^ofi --map-by slot:PE=2 --bind-to core",
    ),
    (
        OpenMPI(),
        {"workers": 2, "hosts": ["a:2"]},
        {"tune_ethernet": True},
        "-n 2 --host a:2 -x PATH -x ARIGNOTE_WORKERS --mca btl ^ofi --map-by slot:PE=2 "
        "--bind-to core",
    ),
    (
        OpenMPI(),
        TWO_HOSTS,
        {"tune_ethernet": True, "extra": ("--mca", FRAGMENT, "1")},
        "-n 4 --host a:2,b:2 -x PATH -x ARIGNOTE_WORKERS "
        "--map-by slot:PE=2 --bind-to core --mca btl_tcp_rdma_pipeline_frag_size 1",
    ),
    (
        OpenMPI(),
        TWO_HOSTS,
        {"tune_ethernet": True, "launcher_environment": {f"OMPI_MCA_{FRAGMENT}": "1"}},
        "-n 4 --host a:2,b:2 -x PATH -x ARIGNOTE_WORKERS --map-by slot:PE=2 --bind-to core",
    ),
    (
        OpenMPI(),
        {"workers": 10, "hosts": ["a:5", "b:5"]},
        {"launcher_environment": {"OMPI_MCA_mpi_yield_when_idle": "0"}},
        "-n 10 --host a:5,b:5 -x PATH -x ARIGNOTE_WORKERS --bind-to none --oversubscribe",
    ),
    (MPICH(), LOCAL, {}, "-n 2 -bind-to core:2"),
    (MPICH(), LOCAL, {"bind": False, "extra": ("-l",)}, "-n 2 -bind-to none -l"),
    (MPICH(), FULL, {}, "-n 5 -bind-to none"),
    (
        MPICH(),
        TWO_HOSTS,
        {},
        "-n 4 -hosts a:2,b:2 -genvlist PATH,ARIGNOTE_WORKERS -bind-to core:2",
    ),
    (MPICH(), UNEQUAL, {}, "-n 4 -hosts a:3,b:2 -genvlist PATH,ARIGNOTE_WORKERS -bind-to core:1"),
    (IntelMPI(), LOCAL, {}, "-genv I_MPI_PIN_DOMAIN 2 -n 2"),
    (IntelMPI(), LOCAL, {"extra": ("-l",)}, "-genv I_MPI_PIN_DOMAIN 2 -l -n 2"),
    (IntelMPI(), FULL, {}, "-genv I_MPI_PIN 0 -n 5"),
    (
        IntelMPI(),
        TWO_HOSTS,
        {},
        "-genv I_MPI_PIN_DOMAIN 2 -genv PATH /p -genv ARIGNOTE_WORKERS 4 "
        "-host a -n 2 py -m w : -host b -n 2",
    ),
    (
        IntelMPI(),
        UNEQUAL,
        {},
        "-genv I_MPI_PIN_DOMAIN 1 -genv PATH /p -genv ARIGNOTE_WORKERS 4 "
        "-host a -n 3 py -m w : -host b -n 1",
    ),
    (
        IntelMPI(),
        {"workers": 2, "hosts": ["a:2", "b:2"]},
        {},
        "-genv I_MPI_PIN_DOMAIN 2 -genv PATH /p -genv ARIGNOTE_WORKERS 4 -host a -n 2",
    ),
    (
        Slurm("pmix"),
        LOCAL,
        {},
        "--ntasks=2 --cpus-per-task=2 --mpi=pmix --kill-on-bad-exit=1 --export=ALL "
        "--cpu-bind=cores",
    ),
    (
        Slurm("pmi2"),
        LOCAL,
        {"bind": False, "extra": ("-v",)},
        "--ntasks=2 --cpus-per-task=2 --mpi=pmi2 --kill-on-bad-exit=1 --export=ALL "
        "--cpu-bind=none --overcommit -v",
    ),
    (
        Slurm("pmi2"),
        TWO_HOSTS,
        {},
        "--ntasks=4 --cpus-per-task=2 --mpi=pmi2 --kill-on-bad-exit=1 --export=ALL "
        "--cpu-bind=cores --nodelist=a,b --ntasks-per-node=2",
    ),
    (
        Slurm("pmi2"),
        UNEQUAL,
        {},
        "--ntasks=4 --cpus-per-task=1 --mpi=pmi2 --kill-on-bad-exit=1 --export=ALL "
        "--cpu-bind=cores --distribution=arbitrary --nodelist=a,a,a,b",
    ),
    (
        Slurm("pmi2"),
        {"workers": 10, "hosts": ["a:5", "b:5"]},
        {"tune_ethernet": True},
        "--ntasks=10 --cpus-per-task=1 --mpi=pmi2 --kill-on-bad-exit=1 "
        f"--export=ALL,OMPI_MCA_{FRAGMENT}=131072,OMPI_MCA_mpi_yield_when_idle=1 "
        "--cpu-bind=none --overcommit --nodelist=a,b --ntasks-per-node=5",
    ),
    (
        Slurm("pmix"),
        LOCAL,
        {"launcher_environment": {"SLURM_STEP_ID": "0"}},
        "--ntasks=2 --cpus-per-task=2 --mpi=pmix --kill-on-bad-exit=1 --export=ALL --overlap "
        "--cpu-bind=cores",
    ),
]


@pytest.mark.parametrize(
    ("flavour", "settings", "more", "expected"),
    ARGV,
    ids=[f"{row[0].name}-{row[1]}-{row[2]}" for row in ARGV],
)
def test_argv(flavour, settings, more, expected):
    assert " ".join(flavour.argv(job(settings, **more))) == f"/mpi/run {expected} py -m w"


def test_parameters_of_a_file_are_kept(tmp_path):
    """A user's, and that of the installation whose mpirun is used, also through a link."""

    def argv(home="none", mpirun="bin/mpirun", extra=(), **variables):
        variables["HOME"] = str(tmp_path / home)
        own = job(LOCAL, launcher_environment=variables, extra=extra)
        return OpenMPI().argv(replace(own, program=str(tmp_path / mpirun)))

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpirun").touch()
    (tmp_path / "links" / "bin").mkdir(parents=True)
    (tmp_path / "links" / "bin" / "mpirun").symlink_to(tmp_path / "bin" / "mpirun")
    for file, where in (
        ("home/.openmpi/mca-params.conf", {"home": "home"}),
        ("etc/openmpi-mca-params.conf", {}),
        ("etc/openmpi-mca-params.conf", {"mpirun": "links/bin/mpirun"}),
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"# btl = tcp\n# r\xe9glage\nbtl_tcp_links = 1\n")
        assert "^ofi" in argv(**where)
        path.write_bytes(b"# r\xe9glage\nbtl = tcp,self\n")
        assert "^ofi" not in argv(**where)
        path.unlink()
    assert "^ofi" not in argv(extra=("--tune", "file"))
    assert "^ofi" not in argv(OMPI_MCA_mca_base_param_files="file")


def tuned(**settings):
    launch = Launch(workers=2, hosts=["a", "b"], mpirun=settings.pop("mpirun"), **settings)
    return FRAGMENT in prepare(launch, ["py"]).argv


@pytest.mark.parametrize(
    ("flavour", "mapping", "expected"),
    [
        (OpenMPI(), "numa", "--map-by numa:PE=2 --bind-to core"),
        # It would refuse to start a worker whose cores are of two sockets.
        (OpenMPI(), "none", "--bind-to none --oversubscribe"),
        (MPICH(), "numa", "-bind-to core:2 -map-by numa"),
        (MPICH(), "none", "-bind-to core:2"),
        (IntelMPI(), "numa", "-genv I_MPI_PIN_DOMAIN 2"),
    ],
)
def test_hosts_of_several_nodes(flavour, mapping, expected):
    made = job(LOCAL)
    placed = replace(made.placement, mapping=mapping)
    assert f" {expected} " in " ".join(flavour.argv(replace(made, placement=placed)))
    loose = flavour.argv(replace(made, placement=placed, bind=False))
    assert "numa" not in " ".join(loose)


def test_several_hosts_are_tuned_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 5.0.11'\n")
    mpirun.chmod(0o755)
    monkeypatch.delenv(f"OMPI_MCA_{FRAGMENT}", raising=False)
    assert tuned(mpirun=str(mpirun))
    assert not tuned(mpirun=str(mpirun), ethernet_tuning=False)
    monkeypatch.setenv(f"OMPI_MCA_{FRAGMENT}", "1")
    assert not tuned(mpirun=str(mpirun))


def test_direct_is_the_command_itself():
    assert Direct().argv(job({"workers": 1})) == ["py", "-m", "w"]


RULE = "-" * 74
OPEN_MPI_5_KILLED = f"""\
{RULE}
prterun noticed that process rank 1 with PID 2450 on node node1 exited on
signal 9 (Killed).
{RULE}
"""
OPEN_MPI_5_EXIT = f"""\
{RULE}
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-node1-2436@1,1]
   Exit code:    2
{RULE}
"""
OPEN_MPI_4_EXIT = f"""\
{RULE}
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
{RULE}
{RULE}
mpirun noticed that process rank 2 with PID 0 on node n1 exited on signal 11 (Segmentation fault).
{RULE}
"""
OPEN_MPI_5_PEER = f"""\
{RULE}
An MPI communication peer process has unexpectedly disconnected.  This
usually indicates a failure in the peer process (e.g., a crash or
otherwise exiting without calling MPI_FINALIZE first).

  Local host: h0
  Local PID:  51
  Peer host:  h1
{RULE}
\0[h0:00000] *** An error occurred in Socket closed
[h0:00000] *** reported by process [649723905,0]
[h0:00000] *** MPI_ERRORS_ARE_FATAL (processes in this communicator will now abort,
[h0:00000] ***    and MPI will try to terminate your MPI job as well)
\0
{RULE}
prterun has exited due to process rank 0 with PID 0 on node h0 calling
"abort". This may have caused other processes in the application to be
terminated by signals sent by prterun (as reported here).
{RULE}
"""
DOUBLE = "=" * 83
MPICH_KILLED = f"""\

{DOUBLE}
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 2374 RUNNING AT node1
=   EXIT CODE: 9
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
{DOUBLE}
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions
"""
MPICH_EXIT = MPICH_KILLED.partition("YOUR APPLICATION TERM")[0].replace("CODE: 9", "CODE: 2")
MPICH_ABORT = "Abort(1) on node 1 (rank 1 in comm 0): application called MPI_Abort(comm, 1)\n"
INTEL_KILLED = f"""\

{DOUBLE}
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   RANK 3 PID 1234 RUNNING AT node1
=   KILLED BY SIGNAL: 11 (Segmentation fault)
{DOUBLE}
"""
SRUN_KILLED = """\
srun: error: node1: task 1: Killed
srun: Job step aborted: Waiting up to 32 seconds for job step to finish.
slurmstepd: error: *** STEP 12.0 ON node1 CANCELLED AT 2026-01-01T00:00:00 ***
"""
SRUN_ENDED = """\
srun: cluster configuration lacks support for cpu binding
srun: got SIGCONT
srun: forcing job termination
slurmstepd-node1: error: *** STEP 1.0 ON node1 CANCELLED AT 2026-01-01T00:00:00 ***
srun: launch/slurm: _step_signal: Terminating StepId=1.0
"""


class Kept:
    """A screen that keeps what it is shown."""

    def __init__(self):
        self.lines = []

    def line(self, text, *, error):
        assert error
        self.lines.append(text)

    def refresh(self):
        pass


def sift(flavour, text):
    """(lines shown as they come, what was held back as the launcher's)."""
    screen = Kept()
    supervisor = Supervisor(flavour, screen, graceful=False, grace_seconds=1)
    supervisor._sift([f"{line}\n".encode() for line in text.splitlines()], True)
    return screen.lines, supervisor._noise


BANNERS = [
    (OpenMPI(), OPEN_MPI_5_KILLED, Death(9, rank=1)),
    (OpenMPI(), OPEN_MPI_5_EXIT, None),
    (OpenMPI(), OPEN_MPI_4_EXIT, Death(11, rank=2)),
    (OpenMPI(), OPEN_MPI_5_PEER, Death(None, host="h1")),
    (OpenMPI(), OPEN_MPI_5_PEER + OPEN_MPI_5_KILLED, Death(9, rank=1)),
    (MPICH(), MPICH_KILLED, Death(9, pid=2374)),
    (MPICH(), MPICH_EXIT, None),
    (MPICH(), MPICH_ABORT, None),
    (IntelMPI(), INTEL_KILLED, Death(11, rank=3, pid=1234)),
    (IntelMPI(), MPICH_KILLED, Death(9, pid=2374)),
    (Slurm("pmi2"), SRUN_KILLED, Death(9, rank=1)),
    (Slurm("pmi2"), SRUN_ENDED, None),
]
IDS = [f"{row[0].name}-{index}" for index, row in enumerate(BANNERS)]


@pytest.mark.parametrize(("flavour", "banner", "death"), BANNERS, ids=IDS)
def test_a_banner_is_held_back_and_understood(flavour, banner, death):
    shown, held = sift(flavour, banner)
    assert shown == []
    assert flavour.death("\n".join(held)) == death


@pytest.mark.parametrize(("flavour", "banner", "death"), BANNERS, ids=IDS)
def test_what_workers_say_around_a_banner_is_shown(flavour, banner, death):
    ruler = "-" * 70 if isinstance(flavour, OpenMPI) else "=" * 70
    before = ["first", ruler, "My results", ruler, "second", ruler]
    after = ["third", ruler, "more", "and more", "last"]
    shown, held = sift(flavour, "\n".join([*before, banner.rstrip("\n"), *after]))
    assert [line for line in shown if line] == [*before, *after]
    assert flavour.death("\n".join(held)) == death


@pytest.mark.parametrize("flavour", [OpenMPI(), MPICH(), IntelMPI(), Slurm("pmi2"), Direct()])
@pytest.mark.parametrize("mark", ["-", "="])
@pytest.mark.parametrize(
    "lines",
    [
        ["{}"],
        ["{}", "{}"],
        ["{}", "{}", "{}"],
        ["{}", "title", "{}", "text"],
        ["a", "{}", "b", "c"],
    ],
)
def test_a_users_own_rulers_are_not_swallowed(flavour, mark, lines):
    lines = [line.format(mark * 70) for line in lines]
    assert sift(flavour, "\n".join(lines)) == (lines, [])


@pytest.mark.parametrize(("flavour", "mark"), [(OpenMPI(), "-"), (MPICH(), "="), (IntelMPI(), "=")])
def test_after_a_users_ruler_nothing_waits_for_the_end(flavour, mark):
    screen = Kept()
    supervisor = Supervisor(flavour, screen, graceful=False, grace_seconds=1)
    seen = []

    def stream():
        for line in (mark * 70, "one", "two", "three", "four"):
            yield f"{line}\n".encode()
            seen.append(len(screen.lines))

    supervisor._sift(stream(), True)
    assert seen[2:] == [3, 4, 5]


def test_mpich_speaks_on_stdout():
    assert MPICH.noise_on_stdout
    assert IntelMPI.noise_on_stdout
    assert not OpenMPI.noise_on_stdout


@pytest.mark.parametrize("flavour", [OpenMPI(), MPICH(), IntelMPI(), Slurm("pmi2"), Direct()])
def test_no_message_is_no_death(flavour):
    assert flavour.death("") is None
    assert flavour.death("nothing was killed by signal 9") is None


def test_direct_makes_no_noise():
    assert not Direct().starts_noise(RULE)
    assert Direct().ends_noise([RULE])


def test_srun_names_the_first_of_several_tasks():
    assert Slurm("pmi2").death("srun: error: n1: tasks 2-3: Killed") == Death(9, rank=2)
