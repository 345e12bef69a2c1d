"""What the models of images promise: layouts, initial weights, sizes, and who is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from arignote.config.spec import parse_spec
from arignote.data.base import Batch
from arignote.data.synthetic import Synthetic
from arignote.errors import UserError
from arignote.models.layers import local_response_norm
from arignote.registry import MODELS


def model_for(name: str, data: str) -> Any:
    model = MODELS.load(name)()
    model.dataset = Synthetic.open(
        parse_spec(f"synthetic:{data},train=1,validation=1"), augment="none"
    )
    return model


def built(name: str, data: str, device: str = "meta") -> nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        module: nn.Module = model_for(name, data).build()
    return module


def test_local_response_norm_is_the_papers() -> None:
    channels = torch.tensor([30.0, -20.0, 10.0, 0.0, 5.0, 100.0])
    normed = local_response_norm()(channels.reshape(1, 6, 1, 1)).flatten()
    # Of channel 1 by hand: its neighbours are 0 to 3.
    assert float(normed[1]) == pytest.approx(-20 / (2 + 1e-4 * (900 + 400 + 100)) ** 0.75)
    assert float(normed[5]) == pytest.approx(100 / (2 + 1e-4 * (25 + 10_000)) ** 0.75)


TORCHVISION = {
    # The shapes of some tensors in torchvision's published weights, and how many tensors those are.
    "alexnet-owt": (
        16,
        {
            "features.0.weight": (64, 3, 11, 11),
            "features.3.weight": (192, 64, 5, 5),
            "features.6.weight": (384, 192, 3, 3),
            "features.8.weight": (256, 384, 3, 3),
            "features.10.bias": (256,),
            "classifier.1.weight": (4096, 9216),
            "classifier.4.weight": (4096, 4096),
            "classifier.6.bias": (1000,),
        },
    ),
    "vgg11": (
        22,
        {
            "features.0.weight": (64, 3, 3, 3),
            "features.3.weight": (128, 64, 3, 3),
            "features.8.weight": (256, 256, 3, 3),
            "features.18.weight": (512, 512, 3, 3),
            "classifier.0.weight": (4096, 25088),
            "classifier.6.weight": (1000, 4096),
        },
    ),
    "vgg16": (
        32,
        {
            "features.2.weight": (64, 64, 3, 3),
            "features.28.weight": (512, 512, 3, 3),
            "classifier.0.weight": (4096, 25088),
            "classifier.3.bias": (4096,),
            "classifier.6.bias": (1000,),
        },
    ),
    "resnet18": (
        122,
        {
            "conv1.weight": (64, 3, 7, 7),
            "bn1.running_var": (64,),
            "layer1.0.conv2.weight": (64, 64, 3, 3),
            "layer2.0.downsample.0.weight": (128, 64, 1, 1),
            "layer4.1.bn2.weight": (512,),
            "fc.weight": (1000, 512),
        },
    ),
    "resnet50": (
        320,
        {
            "layer1.0.conv3.weight": (256, 64, 1, 1),
            "layer1.0.downsample.1.num_batches_tracked": (),
            "layer2.0.conv2.weight": (128, 128, 3, 3),
            "layer3.5.conv1.weight": (256, 1024, 1, 1),
            "layer4.2.bn3.bias": (2048,),
            "fc.weight": (1000, 2048),
        },
    ),
    "resnet152": (932, {"layer3.35.conv3.weight": (1024, 256, 1, 1), "fc.bias": (1000,)}),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_layouts_are_torchvisions(name: str) -> None:
    count, shapes = TORCHVISION[name]
    state = built(name, "3x224x224,1000").state_dict()
    assert len(state) == count
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@pytest.mark.parametrize(
    ("name", "data", "parameters"),
    [
        # Of 63 x 63 one pixel of 256 channels is left for the first dense layer.
        ("alexnet", "3x63x63,10", 60_965_224 - (9216 - 256) * 4096 - 990 * 4097),
        ("alexnet", "3x227x227,1000", 60_965_224),
        ("alexnet", "3x320x240,1000", 60_965_224),
        ("vgg16", "3x32x64,1000", 138_357_544 - (49 - 2) * 512 * 4096),
        ("vgg16", "3x256x256,1000", 138_357_544),
        # A 3x3 stem has 40 weights fewer for each of 3 x 64 pairs; one channel a third of them.
        ("resnet50", "3x32x32,1000", 25_557_032 - 40 * 3 * 64),
        ("resnet50", "1x64x64,1000", 25_557_032 - 49 * 2 * 64),
        ("googlenet", "3x32x32,1000", 13_378_280 - 2 * (2048 - 128) * 1024),
        # 64 patches of 4 x 4 instead of 196 of 16 x 16, and ten classes.
        ("vit-tiny", "3x32x32,10", 5_717_416 - 132 * 192 - 240 * 3 * 192 - 990 * 193),
        ("cifar10-alexnet", "3x64x64,10", 9_923_530 + 3 * 1536 * 2400),
    ],
)
def test_other_sizes_of_images(name: str, data: str, parameters: int) -> None:
    module = built(name, data)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    shape = [int(side) for side in data.partition(",")[0].split("x")]
    classes = int(data.partition(",")[2])
    assert module(torch.empty(2, *shape, device="meta")).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("alexnet", "3x62x224,10", r"alexnet needs images of at least 63 x 63 pixels, got 62 x 2"),
        ("alexnet-owt", "3x32x32,10", r"alexnet-owt needs .* 63 x 63 pixels, got 32 x 32: use la"),
        ("vgg11", "3x31x31,10", r"vgg11 needs images of at least 32 x 32 pixels, got 31 x 31"),
        ("vgg16", "3x32x16,10", r"vgg16 needs images of at least 32 x 32 pixels, got 32 x 16"),
        ("digits-cnn", "1x1x8,10", r"digits-cnn needs images of at least 2 x 2 pixels, got 1 x 8"),
        ("cifar10-cnn", "3x7x8,10", r"cifar10-cnn needs images of at least 8 x 8 pixels, got 7"),
        ("cifar10-toy", "3x27x27,10", r"cifar10-toy needs images of at least 28 x 28 pixels"),
        ("vit-tiny", "3x30x32,10", r"patches of 4 x 4 pixels, got 30 x 32: use sides that are mu"),
        ("vit-tiny", "3x96x100,10", r"patches of 16 x 16 pixels, got 96 x 100: use sides that are"),
    ],
)
def test_images_that_do_not_fit(name: str, data: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        model_for(name, data).build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits-mlp", "mlp-56m"])
def test_texts_are_no_numbers(name: str) -> None:
    model = model_for(name, "1x4x4,10")
    model.dataset.vocabulary = ("a", "b")
    with pytest.raises(UserError, match=f"{name} trains on numbers, but the samples are texts"):
        model.build()


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "cifar10-alexnet",
        "cifar10-cnn",
        "cifar10-toy",
        "digits-cnn",
        "googlenet",
        "vgg11",
        "resnet18",
        "wide-resnet-16-4",
        "vit-tiny",
    ],
)
def test_samples_that_are_no_images(name: str) -> None:
    model = model_for(name, "3x8x8,2")
    model.dataset.sample_shape = (64,)
    with pytest.raises(UserError, match=rf"^{name} trains on images, .* a sample's shape is \(64,"):
        model.build()


def test_initial_weights_of_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS.load("alexnet"), "dense", 512)
    state = built("alexnet", "3x63x63,10", "cpu").state_dict()
    for name, deviation in (
        ("features.0", 0.01),
        ("features.10", 0.01),
        ("classifier.0", 0.005),
        ("classifier.3", 0.005),
        ("classifier.6", 0.01),
    ):
        assert float(state[f"{name}.weight"].std()) == pytest.approx(deviation, rel=0.05)
    constants = {name: set(state[name].tolist()) for name in state if name.endswith("bias")}
    assert [round(constants[f"features.{layer}.bias"].pop(), 6) for layer in (0, 4, 8, 10, 12)] == [
        *(0.0, 0.1, 0.0, 0.1, 0.1)
    ]
    assert constants["classifier.6.bias"] == {0.0}
    assert constants["classifier.3.bias"] == {float(torch.tensor(0.1))}


def test_a_residual_block_begins_as_its_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS.load("resnet50"), "width", 4)
    module: Any = built("resnet50", "3x32x32,10", "cpu")
    x = torch.rand(2, 16, 4, 4)
    assert torch.equal(module.layer1[1](x), x)
    assert not torch.equal(module.layer1[1].conv2.weight, torch.zeros(4, 4, 3, 3))


@pytest.mark.parametrize(("side", "after"), [(32, 32), (63, 63), (64, 16), (224, 56)])
def test_the_stem_of_a_resnet(side: int, after: int) -> None:
    module: Any = built("resnet18", f"3x{side}x{side},10")
    x = module.maxpool(module.conv1(torch.empty(1, 3, side, side, device="meta")))
    assert x.shape == (1, 64, after, after)


def test_auxiliary_heads_count_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, inputs: inputs)
    model = model_for("googlenet", "3x16x16,4")
    torch.manual_seed(0)
    model.module = module = model.build()
    without = [p for name, p in module.named_parameters() if not name.startswith("heads.")]
    # With 1000 classes 990 + 6 more columns of the last layer.
    assert sum(p.numel() for p in without) + 996 * 1025 == 6_998_552
    batch = Batch(torch.randn(2, 3, 16, 16), torch.tensor([1, 3]))
    module.eval()
    main = float(model.loss(batch).detach())
    early = module.until_4a(batch.inputs)
    scores = [module.heads[0](early), module.heads[1](module.until_4d(early))]
    heads = [float(nn.functional.cross_entropy(s, batch.targets).detach()) for s in scores]
    module.train()
    loss = model.loss(batch)
    assert float(loss.detach()) == pytest.approx(main + 0.3 * sum(heads), rel=1e-6)
    assert module.auxiliary == []
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("name", ["alexnet", "cifar10-toy"])
def test_dropout_draws_from_torchs_generator(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "alexnet":
        monkeypatch.setattr(MODELS.load(name), "dense", 64)
    module = built(name, "3x63x63,4", "cpu")
    images = torch.rand(2, 3, 63, 63)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(module(images))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_toy_sees_the_middle() -> None:
    module = built("cifar10-toy", "3x32x32,10", "cpu").eval()
    images = torch.rand(1, 3, 32, 32)
    inside, border = images.clone(), images.clone()
    inside[:, :, 2] += 1
    border[:, :, :2] += 1
    border[:, :, :, 30:] += 1
    assert torch.equal(module(border), module(images))
    assert not torch.equal(module(inside), module(images))
