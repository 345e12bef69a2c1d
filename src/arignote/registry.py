"""One registry for each family: a name, the place that implements it, one line about it.

Entries are strings, so that listing a family imports none of its members: the launcher
and `arignote list` know every name without importing torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arignote.errors import UserError, unknown


@dataclass(frozen=True)
class Entry:
    """One member of a family: `target` is `package.module:attribute`."""

    name: str
    target: str
    summary: str
    in_folder: bool = False
    """Of a data set: whether its spec names a folder."""
    in_file: bool = False
    """Of a data set: whether its spec names a file."""
    parameters: int = 0
    """Of a model: how many it has on inputs of its own kind (of a GAN: how many are exchanged)."""
    input: str = ""
    """Of a model: that kind, such as `3x224x224, 1000`: a sample's shape, and how many classes."""
    paper: str = ""
    """Of a model: who described it, `Krizhevsky 2012` or an arXiv number; empty: we."""


class Registry:
    """The members of one family, in the order in which they are shown to users."""

    def __init__(self, kind: str, *entries: Entry) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            UserError: there is none; the message names the nearest and all known names.
        """
        if name not in self._entries:
            raise UserError(unknown(self.kind, name, self._entries))
        return self._entries[name]

    def load(self, name: str) -> Any:
        """Import and return what implements `name`."""
        module, _, attribute = self.entry(name).target.partition(":")
        return getattr(importlib.import_module(module), attribute)


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
        "arignote.exchange.routes.ipc:CudaIPC",
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

MODELS = Registry(
    "model",
    Entry(
        "digits-mlp",
        "arignote.models.digits:DigitsMLP",
        "two dense layers",
        parameters=9_610,
        input="1x8x8, 10",
    ),
    Entry(
        "digits-cnn",
        "arignote.models.digits:DigitsCNN",
        "two convolutions, two dense layers",
        parameters=21_546,
        input="1x8x8, 10",
    ),
    Entry(
        "cifar10-cnn",
        "arignote.models.cifar10:Cifar10CNN",
        "three convolutions, no batch norm",
        parameters=358_346,
        input="3x32x32, 10",
    ),
    Entry(
        "cifar10-toy",
        "arignote.models.cifar10:Cifar10Toy",
        "Theano-MPI's small CNN",
        parameters=351_946,
        input="3x32x32, 10",
        paper="arXiv 1605.08325",
    ),
    Entry(
        "cifar10-alexnet",
        "arignote.models.alexnet:Cifar10AlexNet",
        "AlexNet's proportions: much to exchange",
        parameters=9_923_530,
        input="3x32x32, 10",
    ),
    Entry(
        "alexnet",
        "arignote.models.alexnet:AlexNet",
        "as in the paper: grouped, normalised",
        parameters=60_965_224,
        input="3x224x224, 1000",
        paper="Krizhevsky 2012",
    ),
    Entry(
        "alexnet-owt",
        "arignote.models.alexnet:AlexNetOWT",
        "ungrouped; torchvision's layout",
        parameters=61_100_840,
        input="3x224x224, 1000",
        paper="arXiv 1404.5997",
    ),
    Entry(
        "googlenet",
        "arignote.models.googlenet:GoogLeNet",
        "inception, two auxiliary heads in training",
        parameters=13_378_280,
        input="3x224x224, 1000",
        paper="arXiv 1409.4842",
    ),
    Entry(
        "vgg11",
        "arignote.models.vgg:VGG11",
        "torchvision's layout",
        parameters=132_863_336,
        input="3x224x224, 1000",
        paper="arXiv 1409.1556",
    ),
    Entry(
        "vgg16",
        "arignote.models.vgg:VGG16",
        "torchvision's layout",
        parameters=138_357_544,
        input="3x224x224, 1000",
        paper="arXiv 1409.1556",
    ),
    Entry(
        "resnet18",
        "arignote.models.resnet:ResNet18",
        "torchvision's layout; 3x3 stem below 64 pixels",
        parameters=11_689_512,
        input="3x224x224, 1000",
        paper="arXiv 1512.03385",
    ),
    Entry(
        "resnet50",
        "arignote.models.resnet:ResNet50",
        "the same, with bottlenecks",
        parameters=25_557_032,
        input="3x224x224, 1000",
        paper="arXiv 1512.03385",
    ),
    Entry(
        "resnet152",
        "arignote.models.resnet:ResNet152",
        "the same, deeper",
        parameters=60_192_808,
        input="3x224x224, 1000",
        paper="arXiv 1512.03385",
    ),
    Entry(
        "wide-resnet-16-4",
        "arignote.models.wide_resnet:WideResNet16x4",
        "normalised before each convolution",
        parameters=2_748_890,
        input="3x32x32, 10",
        paper="arXiv 1605.07146",
    ),
    Entry(
        "wide-resnet-28-4",
        "arignote.models.wide_resnet:WideResNet28x4",
        "the same, deeper",
        parameters=5_849_050,
        input="3x32x32, 10",
        paper="arXiv 1605.07146",
    ),
    Entry(
        "vit-tiny",
        "arignote.models.vit:ViTTiny",
        "DeiT-Ti, a transformer; patches of 16 or 4",
        parameters=5_717_416,
        input="3x224x224, 1000",
        paper="arXiv 2012.12877",
    ),
    Entry(
        "mlp-56m",
        "arignote.models.mlp:MLP56M",
        "dense layers alone, for benches",
        parameters=56_648_714,
        input="3x32x32, 10",
    ),
    Entry(
        "gpt-nano",
        "arignote.models.gpt:GPTNano",
        "small transformer, predicts characters",
        parameters=1_032_704,
        input="256 of 65 tokens",
        paper="Radford 2019",
    ),
    Entry(
        "gpt-small",
        "arignote.models.gpt:GPTSmall",
        "GPT-2's smallest transformer",
        parameters=124_439_808,
        input="1024 of 50257 tokens",
        paper="Radford 2019",
    ),
    Entry(
        "char-lstm",
        "arignote.models.lstm:CharLSTM",
        "two LSTM layers that predict characters",
        parameters=946_625,
        input="256 of 65 tokens",
        paper="arXiv 1506.02078",
    ),
    Entry(
        "lstm",
        "arignote.models.lstm:LSTM",
        "classifies texts (textfolder:DIR)",
        parameters=1_412_354,
        input="200 of 10000 words, 2",
        paper="Hochreiter 1997",
    ),
    Entry(
        "lsgan-digits",
        "arignote.models.lsgan:LSGANDigits",
        "draws digits; critics travel (--rule swap)",
        parameters=24_961,
        input="1x8x8",
        paper="arXiv 1611.04076",
    ),
    Entry(
        "lsgan",
        "arignote.models.lsgan:LSGAN",
        "least-squares GAN of images of any size",
        parameters=6_632_321,
        input="1x28x28",
        paper="arXiv 1611.04076",
    ),
    Entry(
        "wgan",
        "arignote.models.wgan:WGAN",
        "Wasserstein GAN of images of any size",
        parameters=13_393_089,
        input="1x28x28",
        paper="arXiv 1701.07875",
    ),
)

DATA = Registry(
    "data set",
    Entry("digits", "arignote.data.digits:Digits", "scikit-learn's 1,797 digits of 8x8 pixels"),
    Entry(
        "imagefolder",
        "arignote.data.imagefolder:ImageFolder",
        "imagefolder:DIR[,skip_bad=true]: DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg",
        in_folder=True,
    ),
    Entry(
        "cifar10",
        "arignote.data.cifar10:Cifar10",
        "cifar10:DIR: the original binary files, or x_train.npy and its like",
        in_folder=True,
    ),
    Entry(
        "idx",
        "arignote.data.idx:Idx",
        "idx:DIR: MNIST's files and all that follow its format",
        in_folder=True,
    ),
    Entry(
        "text",
        "arignote.data.text:Text",
        "text:FILE[,level=char|byte,length=64,validation=0.1]: any UTF-8 text, for language models",
        in_file=True,
    ),
    Entry(
        "textfolder",
        "arignote.data.textfolder:TextFolder",
        "textfolder:DIR[,vocabulary=10000,length=200]: DIR/train/CLASS/*.txt, DIR/test/CLASS/*.txt",
        in_folder=True,
    ),
    Entry(
        "synthetic",
        "arignote.data.synthetic:Synthetic",
        "synthetic:3x32x32,10[,train=N,validation=N]: random images, for measuring speed",
    ),
)
