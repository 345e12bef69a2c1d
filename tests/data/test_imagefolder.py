"""`imagefolder`: which files are found, how they are decoded, and what is wrong with them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from arignote.config.augment_options import ResizedCropOptions
from arignote.data import class_folders, encoded
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.draws import sample_bits
from arignote.data.open import open_data
from arignote.errors import DataError, UserError


def write_image(path, colour, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def write_noise(path, size=(64, 64)):
    """Noise, so that the file is long enough to be cut in the middle of the pixels."""
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes; the red value of a training image is its place in the order of files."""
    for place, name in enumerate(["cat/a.png", "cat/b.PNG", "cat/c.png", "dog/a.png", "dog/b.png"]):
        write_image(tmp_path / "train" / name, (place * 10, 0, 0))
    write_image(tmp_path / "test" / "dog" / "x.png", (200, 0, 0))
    return tmp_path


def red(data, split, count):
    indices = np.arange(count)
    return data._images(split, indices)[:, 0, 0, 0].tolist()


def test_classes_and_files_are_sorted(folder):
    (folder / "train" / "notes.txt").touch()
    (folder / "train" / "cat" / "notes.txt").touch()
    (folder / "train" / "cat" / "._a.png").touch()
    (folder / "train" / ".cache").mkdir()
    data = open_data(f"imagefolder:{folder}", "none")
    assert data.classes == ("cat", "dog")
    assert (data.train_size, data.validation_size) == (5, 1)
    assert data.sample_shape == (3, 8, 8)
    assert data.skipped == ()
    assert red(data, "train", 5) == [0, 10, 20, 30, 40]
    assert data.train_batch(np.arange(5), seed=0, epoch=0).targets.tolist() == [0, 0, 0, 1, 1]
    assert data.validation_batch(np.arange(1)).targets.tolist() == [1]


def test_jpeg_suffixes(folder):
    for name in ("a.jpg", "b.JPEG", "c.Jpg"):
        write_image(folder / "val" / "cat" / name, (0, 0, 0))
    assert open_data(f"imagefolder:{folder}", "none").validation_size == 3


@pytest.mark.parametrize("name", ["test", "validation", "val"])
def test_names_of_the_validation_folder(folder, name):
    if name != "test":
        shutil.copytree(folder / "test", folder / name)
        write_image(folder / name / "cat" / "new.png", (7, 0, 0))
    data = open_data(f"imagefolder:{folder}", "none")
    assert data.validation_size == (1 if name == "test" else 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_every_mode_becomes_rgb(folder, mode):
    path = folder / "train" / "cat" / ("d.jpg" if mode == "CMYK" else "d.png")
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    data = open_data(f"imagefolder:{folder}", "none")
    assert data._images("train", np.array([3]))[0, 0, 0].tolist() == [255, 255, 255]


def test_palette_with_transparency(folder):
    image = Image.new("P", (8, 8))
    image.putpalette([9, 8, 7] * 256)
    image.save(folder / "train" / "cat" / "d.png", transparency=bytes([0, 128]))
    data = open_data(f"imagefolder:{folder}", "none")
    assert data._images("train", np.array([3]))[0, 0, 0].tolist() == [9, 8, 7]


def test_16_bits_are_scaled_and_not_cut_off(folder):
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(folder / "train" / "cat" / "d.png")
    data = open_data(f"imagefolder:{folder}", "none")
    assert data._images("train", np.array([3]))[0, 0, 0].tolist() == [128, 128, 128]


def test_size_scales_the_shorter_side_and_keeps_the_middle(folder):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(folder / "train" / "cat" / "d.png")
    data = open_data(f"imagefolder:{folder},size=10", "none")
    assert data.sample_shape == (3, 10, 10)
    middle = data._images("train", np.array([3]))[0]
    assert (middle[:, 1:-1] == 255).all()


def test_sizes_that_differ_name_both_and_the_option(folder):
    write_image(folder / "test" / "cat" / "wide.png", (0, 0, 0), size=(12, 9))
    data = open_data(f"imagefolder:{folder}", "none")
    message = r"wide.png is 12x9 pixels, the first image 8x8: .* imagefolder:.*,size=N$"
    with pytest.raises(DataError, match=message):
        data.validation_batch(np.arange(2))


def test_images_are_decoded_once(folder):
    data = open_data(f"imagefolder:{folder}", "none")
    first = data.train_batch(np.array([4, 0, 4]), seed=0, epoch=0)
    shutil.rmtree(folder / "train")
    assert data.train_batch(np.array([4, 0, 4]), seed=0, epoch=0).inputs.equal(first.inputs)


def test_a_split_too_large_to_keep_reads_samples_each_time(folder, monkeypatch):
    kept = open_data(f"imagefolder:{folder}", "none")
    monkeypatch.setattr(encoded, "_KEPT_BYTES", 5 * 8 * 8 * 3 - 1)
    data = open_data(f"imagefolder:{folder}", "none")
    indices = np.array([3, 1, 1])
    expected = kept.train_batch(indices, seed=0, epoch=0)
    assert data.train_batch(indices, seed=0, epoch=0).inputs.equal(expected.inputs)
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match=r"cat/b.PNG cannot be read \(No such file.*make it read"):
        data.train_batch(indices, seed=0, epoch=0)


def test_nothing_is_kept_if_told_so(folder):
    data = open_data(f"imagefolder:{folder},keep=false", "none")
    indices = np.array([4, 0, 4])
    expected = open_data(f"imagefolder:{folder}", "none").train_batch(indices, seed=0, epoch=0)
    assert data.train_batch(indices, seed=0, epoch=0).inputs.equal(expected.inputs)
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match=r"dog/a.png cannot be read"):
        data.train_batch(np.array([3]), seed=0, epoch=0)


# Resized crop


def training(data, indices, **when):
    out = np.empty((len(indices), *data.sample_shape[1:], 3), np.uint8)
    data.load_images("train", indices, out, **when)
    return out


def test_a_resized_crop_is_cut_out_of_the_file(folder):
    sizes = [(64, 40), (33, 90), (20, 20), (50, 51), (40, 30)]
    files = sorted((folder / "train").rglob("*.*"))
    for file, size in zip(files, sizes, strict=True):
        write_noise(file, size)
    data = open_data(f"imagefolder:{folder},size=16", "resized-crop+mirror")
    indices, when = np.array([4, 1, 0, 2, 3, 1]), {"seed": 5, "epoch": 2}
    bits = sample_bits(indices, **when)
    crop = ResizedCrop(ResizedCropOptions())
    expected = []
    for index, own in zip(indices, bits.tolist(), strict=True):
        with Image.open(files[index]) as image:
            box = crop.part(*image.size, own)
            part = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR, box=box))
        expected.append(part[:, ::-1] if own >> 63 else part)
    np.testing.assert_array_equal(training(data, indices, **when), np.stack(expected))


def test_what_is_cut_anew_is_not_kept_but_validation_is(folder):
    data = open_data(f"imagefolder:{folder},size=8", "resized-crop")
    validation = data.validation_batch(np.arange(1)).inputs
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")
    assert data.validation_batch(np.arange(1)).inputs.equal(validation)
    with pytest.raises(DataError, match=r"cat/a.png cannot be read \(No such file"):
        data.train_batch(np.arange(1), seed=0, epoch=0)


def test_mean_and_deviation_are_those_of_whole_images(folder):
    plain = open_data(f"imagefolder:{folder}", "none")
    cut = open_data(f"imagefolder:{folder}", "resized-crop")
    assert (cut.mean, cut.deviation) == (plain.mean, plain.deviation)


def test_a_resized_crop_needs_the_size_where_images_differ(folder):
    data = open_data(f"imagefolder:{folder}", "resized-crop")
    write_image(folder / "train" / "cat" / "b.PNG", (0, 0, 0), size=(12, 9))
    with pytest.raises(DataError, match=r"b.PNG is 12x9 pixels, the first image 8x8: .*,size=N$"):
        data.train_batch(np.arange(2), seed=0, epoch=0)


# What is wrong


def damage(path, how):
    if how == "truncated":
        write_noise(path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif how == "broken png":
        write_noise(path.with_suffix(".png"))
        content = bytearray(path.with_suffix(".png").read_bytes())
        content[60:70] = bytes(10)
        path.with_suffix(".png").unlink()
        path.write_bytes(content)
    else:
        path.write_bytes(b"" if how == "empty" else b"<html>not found</html>")


@pytest.mark.parametrize("how", ["truncated", "broken png", "text", "empty"])
def test_bad_images_are_named_with_the_spec_that_leaves_them_out(folder, how):
    damage(folder / "train" / "cat" / "bad.jpg", how)
    advice = f"cat/bad.jpg is .*: replace it, .* with imagefolder:{folder},skip_bad=true$"
    with pytest.raises(DataError, match=advice):
        open_data(f"imagefolder:{folder}", "none")
    with pytest.raises(DataError, match=f"with imagefolder:{folder},size=8,skip_bad=true$"):
        open_data(f"imagefolder:{folder},size=8", "none")
    data = open_data(f"imagefolder:{folder},skip_bad=true", "none")
    assert data.skipped == (str(folder / "train" / "cat" / "bad.jpg"),)
    assert red(data, "train", 5) == [0, 10, 20, 30, 40]


def test_the_reason_is_told(folder):
    path = folder / "train" / "cat" / "bad.jpg"
    damage(path, "truncated")
    with pytest.raises(DataError, match=r"bad.jpg is damaged \(.*truncated"):
        open_data(f"imagefolder:{folder}", "none")
    damage(path, "text")
    with pytest.raises(DataError, match=r"bad.jpg is no JPEG or PNG image: replace"):
        open_data(f"imagefolder:{folder}", "none")


def test_a_bad_validation_image_is_found_when_it_is_used(folder):
    (folder / "test" / "cat").mkdir()
    damage(folder / "test" / "cat" / "bad.jpg", "text")
    data = open_data(f"imagefolder:{folder}", "none")
    with pytest.raises(DataError, match=r"cat/bad.jpg is no JPEG"):
        data.validation_batch(np.arange(2))


def test_files_that_cannot_be_read_are_never_skipped(folder):
    (folder / "train" / "cat" / "link.png").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"link.png cannot be read \(No such file or directory\)"):
        open_data(f"imagefolder:{folder},skip_bad=true", "none")


def test_folders_that_cannot_be_listed(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(class_folders.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train cannot be listed \(Permission denied\): make"):
        open_data(f"imagefolder:{folder}", "none")


def test_a_class_of_bad_images_only(folder):
    for path in (folder / "train" / "dog").iterdir():
        damage(path, "text")
    with pytest.raises(DataError, match="train/dog holds bad images only"):
        open_data(f"imagefolder:{folder},skip_bad=true", "none")


def test_missing_folders(folder):
    shutil.rmtree(folder / "test")
    with pytest.raises(
        DataError, match=r"has no validation images: .* val, validation, test there"
    ):
        open_data(f"imagefolder:{folder}", "none")
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match=r"has no folder train: expected .*/train/CLASS"):
        open_data(f"imagefolder:{folder}", "none")
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    with pytest.raises(DataError, match="train has no class folders: expected"):
        open_data(f"imagefolder:{folder}", "none")


def test_empty_class_folder(folder):
    (folder / "train" / "eel").mkdir()
    with pytest.raises(DataError, match=r"train/eel holds no .jpg, .jpeg, .png file: put images"):
        open_data(f"imagefolder:{folder}", "none")


def test_a_validation_class_that_training_does_not_know(folder):
    write_image(folder / "test" / "dogs" / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"test: unknown class 'dogs': did you mean 'dog'\?"):
        open_data(f"imagefolder:{folder}", "none")


def test_bad_options(folder):
    with pytest.raises(UserError, match="unknown key 'skip': did you mean 'skip_bad'"):
        open_data(f"imagefolder:{folder},skip=true", "none")
    with pytest.raises(UserError, match="size: got '-1', input should be greater"):
        open_data(f"imagefolder:{folder},size=-1", "none")
