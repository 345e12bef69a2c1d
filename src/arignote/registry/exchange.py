"""How vectors get from worker to worker: routes, and the codecs that they carry."""

from __future__ import annotations

from arignote.registry.base import Entry, Registry

ROUTES = Registry(
    "route",
    Entry(
        "allreduce",
        "arignote.exchange.routes.allreduce:Allreduce",
        "the MPI library's own allreduce over the whole flat vector",
    ),
    Entry(
        "asa",
        "arignote.exchange.routes.asa:ASA",
        "alltoall - sum in fp32 - allgather, by chunks both ways at once; takes every codec",
    ),
    Entry(
        "shm",
        "arignote.exchange.routes.shm:SharedMemory",
        "one host: each worker sums its slice of everybody's vector in place",
    ),
    Entry(
        "hier",
        "arignote.exchange.routes.hier:Hierarchical",
        "several hosts: shm inside each, asa between them, each byte crossing once",
    ),
    Entry(
        "pair",
        "arignote.exchange.routes.pair:Pair",
        "no mean: random pairs trade their vectors (Theano-MPI's swap)",
    ),
    Entry(
        "nccl",
        "arignote.exchange.routes.nccl:NCCL",
        "GPUs: NVIDIA's library, inside a host and between hosts",
    ),
    Entry(
        "ipc",
        "arignote.exchange.routes.ipc:IPC",
        "GPUs of one host: shm in their memory, also where workers share a GPU",
    ),
)

CODECS = Registry(
    "codec",
    Entry("fp32", "arignote.exchange.codecs.fp32:FP32", "full precision, nothing lost"),
    Entry("fp16", "arignote.exchange.codecs.fp16:FP16", "half precision, scaled block by block"),
    Entry("bf16", "arignote.exchange.codecs.bf16:BF16", "the upper half of each float32"),
    Entry("int8", "arignote.exchange.codecs.int8:INT8", "a byte each, rounded at random"),
    Entry(
        "onebit",
        "arignote.exchange.codecs.onebit:OneBit",
        "signs and a scale a block; what is lost is sent later",
    ),
    Entry(
        "topk",
        "arignote.exchange.codecs.topk:TopK",
        "topk[,k=0.01,momentum=0]: the largest elements; the rest is sent later",
    ),
    Entry(
        "powersgd",
        "arignote.exchange.codecs.powersgd:PowerSGD",
        "powersgd[,rank=4]: layers as products of thin matrices; the rest is sent later",
    ),
)
