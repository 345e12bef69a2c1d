"""The data sets."""

from __future__ import annotations

from arignote.registry.base import Entry, Registry

DATA = Registry(
    "data set",
    Entry("digits", "arignote.data.digits:Digits", "scikit-learn's 1,797 digits of 8x8 pixels"),
    Entry(
        "imagefolder",
        "arignote.data.imagefolder:ImageFolder",
        "imagefolder:DIR[,size=N,skip_bad=true,keep=false]: train/CLASS/*.jpg and val/CLASS/*.jpg",
        in_folder=True,
        reads_samples=True,
    ),
    Entry(
        "shards",
        "arignote.data.shards:Shards",
        "shards:DIR[,size=224]: images that `arignote prepare` decoded once, for large data sets",
        in_folder=True,
        reads_samples=True,
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
        "wds",
        "arignote.data.wds:WebDataset",
        "wds:DIR/train-{000..012}.tar[,validation=PATTERN,size=N]: WebDataset's tars of images",
        in_files=True,
        reads_samples=True,
    ),
    Entry(
        "parquet",
        "arignote.data.parquet:Parquet",
        "parquet:DIR[,image=,text=,label=COLUMN]: images or texts as Hugging Face keeps them",
        in_files=True,
        reads_samples=True,
    ),
    Entry(
        "npy",
        "arignote.data.npy:Npy",
        "npy:DIR: x_train.npy, y_train.npy, x_test.npy, y_test.npy: uint8 images, or any floats",
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
