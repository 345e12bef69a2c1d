"""Image files and pictures of any format, as samples; JPEGs at smaller scales."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from arignote.data.decode import BadImageError, bad_images, decode_any, decode_content, middle
from arignote.errors import DataError


def picture(width, height):
    """Horizontal red, vertical green."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([across * 5, down * 5, np.full_like(down, 9)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.new("RGB", (7, 5), (8, 16, 32)).save(path, lossless=True)
    array = decode_any(str(path), (3, 5, 7))
    assert (array.shape, array.dtype) == ((1, 5, 7, 3), np.uint8)
    assert (array == (8, 16, 32)).all()
    assert array.flags.writeable


def test_of_the_right_size_it_stays_as_it_is(tmp_path):
    pixels = picture(9, 6)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_any(str(tmp_path / "a.png"), (3, 6, 9))[0], pixels)


def test_of_another_shape_it_covers_the_sample_and_keeps_the_middle(tmp_path):
    Image.fromarray(picture(41, 9)).save(tmp_path / "a.png")
    array = decode_any(str(tmp_path / "a.png"), (3, 9, 9))
    # 41 across: the middle 9 are columns 16 to 24.
    assert np.array_equal(array[0], picture(41, 9)[:, 16:25])


def test_grey_samples(tmp_path):
    grey = picture(8, 8)[..., :1]
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(decode_any(str(tmp_path / "grey.png"), (1, 8, 8))[0], grey)
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    # ITU-R 601-2: 0.299 R.
    assert (decode_any(str(tmp_path / "red.png"), (1, 8, 8)) == 76).all()


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_modes(tmp_path, mode):
    path = tmp_path / "a.tiff"
    Image.new("L", (4, 4), 255).convert("RGB" if mode == "CMYK" else "L").convert(
        "I;16" if mode == "I;16" else mode
    ).save(path)
    assert decode_any(str(path), (3, 4, 4)).shape == (1, 4, 4, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_in_either_order_of_bytes(tmp_path, order):
    values = np.array([[0, 128 * 256], [255 * 256, 7 * 256 + 200]], f"{order}u2")
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(
        decode_any(str(tmp_path / "a.tiff"), (1, 2, 2))[0, ..., 0], [[0, 128], [255, 7]]
    )


def test_a_large_picture_reads_samples_without_a_word(tmp_path, monkeypatch):
    Image.new("1", (12, 12), 1).save(tmp_path / "large.png")
    # Above it Pillow warns, above twice as much it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert (decode_any(str(tmp_path / "large.png"), (1, 8, 8)) == 255).all()


def test_what_is_no_picture(tmp_path):
    Image.fromarray(picture(64, 64)).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadImageError, match=r"cut\.png is damaged"):
        decode_any(str(tmp_path / "cut.png"), (3, 8, 8))
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(BadImageError, match=r"text\.png is no picture that Pillow can read"):
        decode_any(str(tmp_path / "text.png"), (3, 8, 8))
    # Pillow would start Ghostscript for it.
    (tmp_path / "script.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(BadImageError, match=r"script\.eps is no picture"):
        decode_any(str(tmp_path / "script.eps"), (3, 8, 8))
    with pytest.raises(DataError, match=r"gone\.png cannot be read \(No such file"):
        decode_any(str(tmp_path / "gone.png"), (3, 8, 8))


# Sizes whose ratio is no round number


def test_no_box_leaves_its_image():
    sides = [*range(1, 60), 301, 333, 491, 640, 4032]
    for width in sides:
        for height in sides:
            assert middle((width, height), (width, height)) == (0, 0, width, height)
            for size in ((7, 5), (height, width)):
                left, top, right, bottom = middle((width, height), size)
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height


@pytest.mark.parametrize("size", [(301, 491), (333, 77), (49, 1), (3, 107)])
def test_without_size_an_image_stays_as_it_is(tmp_path, size):
    pixels = picture(*size)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(decode_content(content, "a.png", 0), pixels)
    assert bad_images([str(tmp_path / "a.png")]) == []


# JPEGs at smaller scales


def photo(width, height):
    """Large shapes and fine grain, as photographs have them."""
    rng = np.random.default_rng(0)
    shapes = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    grain = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    shapes = shapes.resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(shapes, grain.filter(ImageFilter.GaussianBlur(1)), 0.2)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fully(content, size, box=None):
    """At full scale, by Pillow alone."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if box is None:
        return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def difference(one, other):
    """Mean absolute, of 255."""
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other).mean()


@pytest.fixture
def decoded_sizes(monkeypatch):
    """The sizes (W, H) at which Pillow was told to decode, where it was told."""
    sizes, draft = [], JpegImageFile.draft

    def spy(self, mode, size):
        result = draft(self, mode, size)
        sizes.append(self.size)
        return result

    monkeypatch.setattr(JpegImageFile, "draft", spy)
    return sizes


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [
        (127, 63, 1),
        (64, 32, 1),
        (63, 90, 1),
        (65, 64, 2),
        (66, 99, 2),
        (127, 400, 2),
        (129, 131, 4),
        (255, 256, 4),
        (261, 256, 8),
        (999, 700, 8),
    ],
)
def test_the_smallest_scale_that_covers_the_sample(decoded_sizes, width, height, scale):
    content = encoded(photo(width, height), quality=90)
    found = decode_content(content, "a.jpg", 32)
    if scale == 1:
        assert decoded_sizes == []
        np.testing.assert_array_equal(found, fully(content, 32))
        return
    (size,) = decoded_sizes
    assert size == (-(-width // scale), -(-height // scale))
    assert min(size) >= 32
    assert scale == 8 or min(width, height) < 2 * scale * 32
    # The mean of squares is a sharper filter than the triangle of a bilinear resize, which shows
    # where shapes are as small as these.
    assert difference(found, fully(content, 32)) < 4


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_at_a_smaller_scale(decoded_sizes, mode):
    content = encoded(photo(300, 200).convert(mode), quality=90)
    found = decode_content(content, "a.jpg", 32)
    assert decoded_sizes == [(75, 50)]
    assert difference(found, fully(content, 32)) < 2


def test_progressive_ones_too(decoded_sizes):
    content = encoded(photo(300, 200), quality=90, progressive=True)
    assert difference(decode_content(content, "a.jpg", 32), fully(content, 32)) < 2
    assert decoded_sizes == [(75, 50)]


def test_without_size_and_of_other_formats_nothing_is_left_out(decoded_sizes):
    image = photo(300, 200)
    np.testing.assert_array_equal(decode_content(encoded(image, "PNG"), "a", 0), np.asarray(image))
    content = encoded(image, "PNG")
    np.testing.assert_array_equal(decode_content(content, "a", 32), fully(content, 32))
    content = encoded(image)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode_content(content, "a", 0), expected)
    assert decoded_sizes == []


@pytest.mark.parametrize(
    ("box", "scale"),
    [
        ((0, 0, 32, 32), 1),
        ((101, 57, 164, 190), 1),
        ((101, 57, 165, 190), 2),
        ((3, 1, 300, 130), 4),
        ((1, 0, 301, 257), 8),
    ],
)
def test_a_part_is_cut_out_at_the_resolution_of_the_file(decoded_sizes, box, scale):
    content = encoded(photo(301, 257), quality=90)
    asked = []

    def window(width, height):
        asked.append((width, height))
        return box

    found, expected = decode_content(content, "a.jpg", 32, window), fully(content, 32, box)
    assert asked == [(301, 257)]
    if scale == 1:
        assert decoded_sizes == []
        np.testing.assert_array_equal(found, expected)
    else:
        assert decoded_sizes == [(-(-301 // scale), -(-257 // scale))]
        assert difference(found, expected) < 2


def test_a_part_without_size_takes_the_shape_of_the_image():
    content, box = encoded(photo(60, 40)), (10, 5, 30, 30)
    found = decode_content(content, "a.jpg", 0, lambda width, height: box)
    image = Image.open(io.BytesIO(content))
    expected = image.resize((60, 40), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_orientation_is_left_as_it_is_stored():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = photo(128, 64)
    turned, plain = encoded(image, exif=exif), encoded(image)
    for size in (0, 16, 32):
        np.testing.assert_array_equal(
            decode_content(turned, "a.jpg", size), decode_content(plain, "a.jpg", size)
        )


def test_a_truncated_one_is_found_at_every_scale():
    content = encoded(photo(300, 200), quality=90)
    for size in (0, 128, 32):
        with pytest.raises(BadImageError, match=r"a.jpg is damaged \(.*truncated"):
            decode_content(content[: len(content) // 2], "a.jpg", size)


def test_pictures_to_use_are_decoded_as_those_to_train_on(tmp_path, decoded_sizes):
    content = encoded(photo(300, 200))
    (tmp_path / "a.jpg").write_bytes(content)
    found = decode_any(str(tmp_path / "a.jpg"), (3, 32, 32))[0]
    np.testing.assert_array_equal(found, decode_content(content, "a.jpg", 32))
    assert decoded_sizes == [(75, 50)] * 2
