"""The rules, as users see them listed."""

from __future__ import annotations

from arignote.registry.base import Entry, Registry

RULES = Registry(
    "rule",
    Entry("bsp", "arignote.rules.bsp:BSP", "every step, all workers: average gradients or weights"),
    Entry(
        "easgd",
        "arignote.rules.easgd:EASGD",
        "each worker alone, every period: it and a centre move towards each other",
    ),
    Entry(
        "easgd-sync",
        "arignote.rules.easgd_sync:EASGDSync",
        "the same, all workers at once; no server",
    ),
    Entry(
        "asgd",
        "arignote.rules.asgd:ASGD",
        "each worker alone, every period: push what it learned, pull the centre",
    ),
    Entry("gosgd", "arignote.rules.gosgd:GOSGD", "gossip: now and then push to a random worker"),
    Entry("sgp", "arignote.rules.sgp:SGP", "every step: push half to the next of ever new peers"),
    Entry(
        "adpsgd", "arignote.rules.adpsgd:ADPSGD", "each worker alone: average with a random worker"
    ),
    Entry("local-sgd", "arignote.rules.local_sgd:LocalSGD", "every period, all workers: the mean"),
    Entry(
        "post-local",
        "arignote.rules.post_local:PostLocal",
        "as bsp until the learning rate first drops, then as local-sgd",
    ),
    Entry("slowmo", "arignote.rules.slowmo:SlowMo", "local-sgd with momentum across rounds"),
    Entry(
        "diloco",
        "arignote.rules.diloco:DiLoCo",
        "long periods; the mean change feeds an outer Nesterov optimizer",
    ),
    Entry(
        "streaming-diloco",
        "arignote.rules.streaming_diloco:StreamingDiLoCo",
        "diloco by fragments, staggered, merged late: no pause to wait in",
    ),
    Entry("swap", "arignote.rules.swap:Swap", "every period random pairs trade weights (GANs)"),
    Entry(
        "two-level",
        "arignote.rules.two_level:TwoLevel",
        "INNER/OUTER, such as bsp/diloco: one rule inside a host, another across hosts",
    ),
)
