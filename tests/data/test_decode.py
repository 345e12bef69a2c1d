"""Pictures of any format, as samples."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from arignote.data.decode import BadImageError, decode_any
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
