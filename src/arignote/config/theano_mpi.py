"""Theano-MPI's names of models -> ours, so that its session files name what is here."""

from __future__ import annotations

_LASAGNE = "theanompi.models.lasagne_model_zoo"

PACKAGE = "theanompi.models."
"""What all of them begin with."""
MODELS = {
    "theanompi.models.alex_net:AlexNet": "alexnet",
    "theanompi.models.alex_net_sc:AlexNet": "alexnet",
    "theanompi.models.alex_net_sc:AlexNet_sc": "alexnet",
    "theanompi.models.cifar10:Cifar10_model": "cifar10-toy",
    "theanompi.models.googlenet:GoogLeNet": "googlenet",
    "theanompi.models.keras_model_zoo.wresnet:Wide_ResNet": "wide-resnet-28-4",
    "theanompi.models.lstm_theanompi:LSTM": "lstm",
    f"{_LASAGNE}.lsgan:LSGAN": "lsgan",
    f"{_LASAGNE}.lsgan_cifar10:LSGAN": "lsgan",
    f"{_LASAGNE}.resnet50:ResNet50": "resnet50",
    f"{_LASAGNE}.resnet152:ResNet152": "resnet152",
    f"{_LASAGNE}.vgg16:VGG16": "vgg16",
    f"{_LASAGNE}.wgan:WGAN": "wgan",
}
"""`MODELFILE:MODELCLASS` as they stand in its sources -> a name in the registry."""
