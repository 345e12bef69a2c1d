"""What is said of where the workers compute."""

from __future__ import annotations

from arignote.recorder.placement_lines import placement_lines


def worker(rank, *, host="a", gpu=None, cpus="0-3", nodes=(0,), remark=""):
    return {
        "rank": rank,
        "host": host,
        "device": "cpu" if gpu is None else f"cuda:{gpu}",
        "name": "" if gpu is None else "H100",
        "identity": "" if gpu is None else f"GPU-{gpu}",
        "cpus": cpus,
        "nodes": list(nodes),
        "remark": remark,
    }


def lines(*workers, idle_gpus=0):
    return list(placement_lines(workers, idle_gpus))


def test_of_cpus_nothing_is_said():
    assert lines(worker(0), worker(1)) == []


def test_gpus_that_nobody_uses():
    [line] = lines(worker(0), worker(1), idle_gpus=4)
    assert line == "all workers compute on CPUs, though a has 4 GPUs: --devices cuda uses them"
    assert lines(worker(0, gpu=0), idle_gpus=4) == [
        "a: worker 0 on cuda:0 (CPUs 0-3 of node 0); H100"
    ]


def test_workers_on_gpus():
    assert lines(
        worker(0, gpu=0),
        worker(1, gpu=1, cpus="4-7", nodes=(0, 1)),
        worker(2, host="b", gpu=0, nodes=()),
    ) == [
        "a: worker 0 on cuda:0 (CPUs 0-3 of node 0), worker 1 on cuda:1 (CPUs 4-7 of nodes 0-1); "
        "H100",
        "b: worker 2 on cuda:0 (CPUs 0-3); H100",
    ]


def test_several_on_one_gpu():
    found = lines(worker(0, gpu=0), worker(1, gpu=1), worker(2, gpu=0), worker(3, host="b", gpu=0))
    assert found[2:] == ["a: workers 0,2 share cuda:0"]


def test_who_is_not_bound():
    found = lines(
        worker(0, gpu=0, remark="no node"),
        worker(1, gpu=1, remark="no node"),
        worker(2, host="b", gpu=0, remark="no node"),
    )
    assert found[2:] == [
        "workers 0-1 were not bound near a GPU; a: no node",
        "worker 2 was not bound near a GPU; b: no node",
    ]


def test_many():
    many = [worker(rank, host=f"h{rank // 10}", gpu=rank % 10) for rank in range(60)]
    found = lines(*many)
    assert len(found) == 5
    assert found[0].endswith("worker 7 on cuda:7 (CPUs 0-3 of node 0) and 2 more; H100")
    assert found[-1] == "... and on 2 more hosts (events.jsonl has all)"
