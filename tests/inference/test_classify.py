"""Pictures and texts to classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arignote.data.card import DataCard
from arignote.data.open import open_data
from arignote.data.words import NAMES
from arignote.errors import DataError, UserError
from arignote.inference.classify import classify, reader
from arignote.inference.load import load_trained
from arignote.inference.request import Request
from arignote.models.lstm import LSTM


def ask(run: Path, *files: str, top: int = 5) -> list[dict[str, Any]]:
    found = classify(Request("classify", str(run), options={"files": files, "top": top}))
    found_files: list[dict[str, Any]] = found["files"]
    return found_files


def test_pictures_of_the_validation_set(trained: Any, tmp_path: Path) -> None:
    """Each gets the probabilities of its sample, and most their class."""
    chosen = np.arange(0, 360, 18)
    batch = trained.data.validation_batch(chosen)
    probabilities = load_trained(trained.folder, "last").outputs(batch.inputs).softmax(1)
    files = [trained.picture(index, tmp_path / f"{index}.png") for index in chosen]
    found = ask(trained.folder, *files)
    assert [image["file"] for image in found] == files
    right = 0
    for image, expected, target in zip(found, probabilities, batch.targets, strict=True):
        names = [best["class"] for best in image["best"]]
        assert names == [str(place) for place in expected.argsort(descending=True)[:5].tolist()]
        shown = [best["probability"] for best in image["best"]]
        assert shown == pytest.approx(expected.sort(descending=True).values[:5].tolist(), rel=1e-4)
        right += names[0] == str(int(target))
    assert right >= 16


def test_a_large_picture_in_colours(
    make_run: Any, flat: str, flat_weights: Any, pictures: DataCard, tmp_path: Path
) -> None:
    """Resized to cover 6 x 4, the middle kept, normalised channel by channel."""
    run = make_run(flat, flat_weights, pictures)
    # 40 wide, 12 high: the middle 8 x 12, halved, is what the model sees (and a little around it,
    # since the filter is as wide as two pixels of the result).
    picture = np.zeros((12, 40, 3), np.uint8)
    picture[:, 14:26] = (11, 22, 34)
    path = tmp_path / "wide.tiff"
    Image.fromarray(picture).save(path)
    (image,) = ask(run, str(path), top=9)
    pixels = torch.tensor([1.0, 1.0, 1.0])[:, None, None].expand(3, 6, 4).reshape(-1)
    scores = flat_weights["1.weight"] @ pixels + flat_weights["1.bias"]
    expected = dict(zip(pictures.classes, scores.double().softmax(0).tolist(), strict=True))
    found = {best["class"]: best["probability"] for best in image["best"]}
    assert found == pytest.approx(expected, rel=1e-5)
    assert sum(found.values()) == pytest.approx(1)


def test_a_grey_picture_for_a_model_in_colours(
    make_run: Any, flat: str, flat_weights: Any, pictures: DataCard, tmp_path: Path
) -> None:
    run = make_run(flat, flat_weights, pictures)
    for mode, name in (("L", "grey.png"), ("RGB", "colours.png")):
        Image.new("L", (4, 6), 77).convert(mode).save(tmp_path / name)
    grey, colours = ask(run, str(tmp_path / "grey.png"), str(tmp_path / "colours.png"))
    assert grey["best"] == colours["best"]


def test_texts_of_the_validation_set(make_run: Any, tmp_path: Path) -> None:
    """Each gets the scores of its sample, whatever the model has learned."""
    texts = {
        "train/good/0.txt": "A fine film, a fine evening",
        "train/bad/0.txt": "a dull film",
        "test/good/0.txt": "FINE! And isn't it a long, long film? Longer than ten words",
        "test/bad/0.txt": "dull",
        "test/bad/1.txt": "",
    }
    for name, text in texts.items():
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    spec = f"textfolder:{tmp_path / 'films'},length=10"
    data = open_data(spec, "none")
    model = LSTM()
    model.dataset = data
    run = make_run("lstm", model.build().state_dict(), DataCard.of(data), {"run.data": spec})
    batch = data.validation_batch(np.arange(3))
    expected = load_trained(run, "last").outputs(batch.inputs).softmax(1)
    files = sorted(str(path) for path in (tmp_path / "films" / "test").glob("*/*"))
    for found, probabilities in zip(ask(run, *files), expected, strict=True):
        shown = {best["class"]: best["probability"] for best in found["best"]}
        assert [shown[name] for name in data.classes] == pytest.approx(probabilities.tolist())
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8: .*: convert it"):
        ask(run, str(tmp_path / "latin.txt"))


def test_files_that_are_no_pictures(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"notes\.txt is no picture that Pillow can read"):
        ask(trained.folder, str(tmp_path / "notes.txt"))
    with pytest.raises(DataError, match=r"gone\.png cannot be read \(No such file"):
        ask(trained.folder, str(tmp_path / "gone.png"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocabulary": ("a", "b"), "classes": ("a", "b")},
            "was trained on text: a language model takes --prompt",
        ),
        ({"vocabulary": ("a", "b")}, "was trained on tokens of its own data set's making: infer"),
        ({"vocabulary": NAMES}, "was trained on tokens of its own data set's making"),
        ({"sample_shape": (16,)}, r"samples of shape \(16,\): a picture is \(1, H, W\) or"),
        ({"sample_shape": (2, 6, 4)}, r"samples of shape \(2, 6, 4\)"),
        ({"mean": (), "deviation": ()}, "does not say how pixels become inputs"),
    ],
)
def test_models_that_take_no_files(
    pictures: DataCard, changes: dict[str, Any], message: str
) -> None:
    card = DataCard.load(pictures.as_dict() | changes)
    with pytest.raises(UserError, match=message):
        reader(card, "run")


def test_a_model_that_gives_no_scores(
    make_run: Any, tmp_path: Path, flat_weights: Any, pictures: DataCard
) -> None:
    (tmp_path / "map.py").write_text(
        "from torch import nn\nfrom arignote import Model\n\n\nclass Map(Model):\n"
        "    def build(self):\n        return nn.Conv2d(3, 3, 1)\n"
    )
    weights = torch.nn.Conv2d(3, 3, 1).state_dict()
    run = make_run(f"{tmp_path / 'map.py'}:Map", weights, pictures)
    Image.new("RGB", (4, 6)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=r"gives \(1, 3, 6, 4\) for one file: .* \(1, 3\)"):
        ask(run, str(tmp_path / "black.png"))
