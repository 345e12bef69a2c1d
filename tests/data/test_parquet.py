"""`parquet`: images and texts as Hugging Face's datasets write them, and files that do not fit."""

from __future__ import annotations

import io
import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import ipc, parquet

from arignote.data import encoded, tables
from arignote.data.open import open_data
from arignote.errors import DataError, UserError

STRUCTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(red, size=(6, 4)):
    with io.BytesIO() as file:
        Image.new("RGB", size, (red, 0, 0)).save(file, "PNG")
        return file.getvalue()


def pictures(first, count, kind=STRUCTURE):
    """The red value of an image is its number."""
    contents = [png(number) for number in range(first, first + count)]
    if kind == STRUCTURE:
        return pa.array([{"bytes": content, "path": None} for content in contents], kind)
    return pa.array(contents, kind)


def table(columns, names=None):
    """`names`: of the classes, by column, as the library `datasets` keeps them."""
    made = pa.table(columns)
    if names is None:
        return made
    features = {
        column: {"names": names[column], "_type": "ClassLabel"}
        if column in names
        else {"_type": "Image"}
        for column in columns
    }
    described = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": described})


def images(first, count, **columns):
    labels = pa.array([number % 3 for number in range(first, first + count)], pa.int64())
    return table({"image": pictures(first, count), "label": labels, **columns})


def write(path, content, group_rows=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path, row_group_size=group_rows)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", images(0, 5))
    write(tmp_path / "train-00001-of-00002.parquet", images(5, 4))
    write(tmp_path / "validation-00000-of-00001.parquet", images(100, 3))
    return tmp_path


def red(data, split, indices):
    return data._images(split, np.array(indices))[:, 0, 0, 0].tolist()


def check_images(data):
    assert (data.train_size, data.validation_size) == (9, 3)
    assert (data.sample_shape, data.classes) == ((3, 4, 6), ("0", "1", "2"))
    assert red(data, "train", range(9)) == list(range(9))
    assert red(data, "train", [8, 0, 4, 4]) == [8, 0, 4, 4]
    assert red(data, "validation", range(3)) == [100, 101, 102]
    batch = data.train_batch(np.array([8, 3]), seed=0, epoch=0)
    assert batch.targets.tolist() == [2, 0]


def test_images(folder):
    check_images(open_data(f"parquet:{folder}", "none"))
    check_images(open_data(f"parquet:{folder}/train-*.parquet", "none"))
    (folder / "data").mkdir()
    for path in folder.glob("*.parquet"):
        path.rename(folder / "data" / path.name)
    check_images(open_data(f"parquet:{folder}", "none"))


def test_what_save_to_disk_writes(tmp_path):
    for name, parts in (("train", ((0, 5), (5, 4))), ("test", ((100, 3),))):
        (tmp_path / name).mkdir()
        for place, (first, count) in enumerate(parts):
            path = tmp_path / name / f"data-{place:05}-of-{len(parts):05}.arrow"
            content = images(first, count)
            with ipc.new_stream(str(path), content.schema) as stream:
                stream.write_table(content, max_chunksize=2)
    check_images(open_data(f"parquet:{tmp_path}", "none"))
    path.write_bytes(b"no stream")
    with pytest.raises(DataError, match=r"00001.arrow cannot be read as Arrow file \(.*\): get it"):
        open_data(f"parquet:{tmp_path}", "none")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_plain_bytes_and_other_names(tmp_path, kind):
    for name, first in (("train", 0), ("test", 50)):
        columns = {"picture": pictures(first, 4, kind), "class": pa.array([1, 0, 1, 0], pa.uint8())}
        write(tmp_path / f"{name}-0.parquet", table(columns))
    data = open_data(f"parquet:{tmp_path}", "none")
    assert red(data, "train", [3, 1]) == [3, 1]
    assert data.train_batch(np.arange(4), seed=0, epoch=0).targets.tolist() == [1, 0, 1, 0]


def test_names_of_the_classes(folder):
    named = {"label": ["cat", "dog", "elk", "fox"]}
    for path in folder.glob("*.parquet"):
        content = parquet.read_table(path)
        write(path, table({name: content[name] for name in content.column_names}, named))
    data = open_data(f"parquet:{folder}", "none")
    assert data.classes == ("cat", "dog", "elk", "fox")
    named["label"] = ["cat", "dog"]
    write(
        folder / "train-00000-of-00002.parquet",
        table(dict(zip(["image", "label"], images(0, 5).columns, strict=True)), named),
    )
    with pytest.raises(
        DataError, match=r"label 2 at position 2, expected 0\.\.1, the classes that "
    ):
        open_data(f"parquet:{folder}", "none")


def test_a_column_that_names_its_classes_comes_first(tmp_path):
    columns = {"image": pictures(0, 2), "label": [7, 7], "kind": [0, 1]}
    for name in ("train", "test"):
        write(tmp_path / f"{name}-0.parquet", table(columns, {"kind": ["cat", "dog"]}))
    assert open_data(f"parquet:{tmp_path}", "none").classes == ("cat", "dog")
    assert len(open_data(f"parquet:{tmp_path},label=label", "none").classes) == 8
    for name in ("train", "test"):
        named = {"label": list("abcdefgh"), "kind": ["cat", "dog"]}
        write(tmp_path / f"{name}-0.parquet", table(columns, named))
    assert len(open_data(f"parquet:{tmp_path}", "none").classes) == 8


@pytest.mark.parametrize("described", [b"no JSON", b"{}", b"[]", b'{"info": {"features": 3}}'])
def test_a_description_that_says_nothing(folder, described):
    path = folder / "train-00000-of-00002.parquet"
    write(path, images(0, 5).replace_schema_metadata({b"huggingface": described}))
    check_images(open_data(f"parquet:{folder}", "none"))


def test_columns_are_chosen_where_there_are_several(tmp_path):
    for name in ("train", "test"):
        columns = {
            "left": pictures(0, 3),
            "right": pictures(50, 3),
            "fine": [0, 1, 2],
            "coarse": [0, 0, 1],
            "caption": ["a", "b", "c"],
        }
        write(tmp_path / f"{name}-0.parquet", table(columns))
    spec = f"parquet:{tmp_path}"
    with pytest.raises(UserError, match=r"left, right may all be images: choose one with image=CO"):
        open_data(spec, "none")
    with pytest.raises(
        UserError, match="fine, coarse may all be labels: choose one with label=COL"
    ):
        open_data(f"{spec},image=left", "none")
    data = open_data(f"{spec},image=right,label=coarse", "none")
    assert (red(data, "train", [0]), data.classes) == ([50], ("0", "1"))
    assert open_data(f"{spec},text=caption,label=fine", "none").sample_name == "texts"
    with pytest.raises(UserError, match="unknown column 'rihgt': did you mean 'right'"):
        open_data(f"{spec},image=rihgt", "none")
    with pytest.raises(
        UserError, match=r"image=fine holds int64, no images: its columns are left "
    ):
        open_data(f"{spec},image=fine", "none")
    with pytest.raises(
        UserError, match=r"image= is for images, and column caption holds texts: le"
    ):
        open_data(f"{spec},text=caption,image=left,label=fine", "none")
    with pytest.raises(
        UserError, match="length= is for texts, and column left holds images: leave"
    ):
        open_data(f"{spec},image=left,label=fine,length=3", "none")


def write_texts(folder):
    content = {"text": ["Bad, bad film", "a film film film", ""], "label": [0, 1, 0]}
    write(folder / "train-0.parquet", table(content, {"label": ["neg", "pos"]}))
    content = {"text": ["a good film"], "label": [1]}
    write(folder / "test-0.parquet", table(content, {"label": ["neg", "pos"]}))


def test_texts_are_read_as_textfolder_reads_them(tmp_path):
    write_texts(tmp_path)
    for name, split, text in (
        *(("neg/0", "train", "Bad, bad film"), ("neg/1", "train", "")),
        *(("pos/0", "train", "a film film film"), ("pos/0", "test", "a good film")),
    ):
        path = tmp_path / "folders" / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ours = open_data(f"parquet:{tmp_path},length=4,vocabulary=4", "none")
    theirs = open_data(f"textfolder:{tmp_path}/folders,length=4,vocabulary=4", "none")
    assert (ours.vocabulary, ours.classes) == (theirs.vocabulary, theirs.classes)
    assert ours.vocabulary == ("<padding>", "<unknown>", "film", "bad")
    batches = [
        data.train_batch(np.array(indices), seed=0, epoch=0)
        for data, indices in ((ours, [0, 2, 1]), (theirs, [0, 1, 2]))
    ]
    assert batches[0].inputs.equal(batches[1].inputs)
    assert batches[0].targets.equal(batches[1].targets)
    assert ours.validation_batch(np.arange(1)).inputs.tolist() == [[1, 1, 2, 0]]


def test_texts_have_no_size(tmp_path):
    write_texts(tmp_path)
    with pytest.raises(
        UserError, match="size= is for images, and column text holds texts: leave it"
    ):
        open_data(f"parquet:{tmp_path},size=3", "none")


def test_size_and_images_that_differ(folder):
    other = table({"image": [{"bytes": png(9, (20, 10)), "path": None}], "label": [0]})
    write(folder / "train-00001-of-00002.parquet", other)
    message = (
        r"00001-of-00002.parquet: image of row 0 in group 0 is 20x10 pixels, the first image 6x4: "
        r"bring all to N pixels a side with parquet:.*,size=N$"
    )
    with pytest.raises(DataError, match=message):
        open_data(f"parquet:{folder}", "none").train_batch(np.array([5]), seed=0, epoch=0)
    data = open_data(f"parquet:{folder},size=5", "none")
    assert (data.sample_shape, red(data, "train", [5, 4])) == ((3, 5, 5), [9, 4])


def test_groups_are_read_once_and_few_are_kept(folder, monkeypatch):
    monkeypatch.setattr(encoded, "_KEPT_BYTES", 0)
    data = open_data(f"parquet:{folder}", "none")
    read, group = [], tables.ParquetFile.group

    def counted(self, number, column):
        read.append(("00001-of" in self.path, number))
        return group(self, number, column)

    monkeypatch.setattr(tables.ParquetFile, "group", counted)
    source = data._encoded["train"]._source
    source._kept.clear()
    assert red(data, "train", [8, 0, 6, 1, 5, 0]) == [8, 0, 6, 1, 5, 0]
    assert sorted(read) == [(False, 0), (True, 0), (True, 1)]
    monkeypatch.setattr(tables, "_KEPT_BYTES", 1)
    read.clear()
    assert red(data, "train", [2, 3]) == [2, 3]
    assert (read, len(source._kept)) == ([(False, 1)], 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            table({"label": [0, 1]}),
            r"has no column of images and none of texts: its columns are lab",
        ),
        (
            table({"image": pictures(0, 2)}),
            r"no column of labels \(whole numbers\): its columns ar",
        ),
        (
            table({"image": pictures(0, 2), "label": [0, None]}),
            r"has 1 rows without a value in col",
        ),
        (table({"image": pictures(0, 2), "label": [0, -1]}), r"label -1 at position 1, expected 0"),
        (table({"image": pictures(0, 0), "label": pa.array([], pa.int64())}), "holds no rows: at"),
        (
            table({"image": pa.array([{"bytes": None, "path": "a.png"}], STRUCTURE), "label": [0]}),
            r"image of row 0 in group 0 is no image: write images themselves into the file",
        ),
        (
            table({"image": pa.array([None], STRUCTURE), "label": [0]}),
            r"image of row 0 in group 0 is no image: write",
        ),
        (
            table({"image": pa.array([b"x"]), "label": [0]}),
            r"image of row 0 in group 0 is no JPEG or PNG image: replace it",
        ),
    ],
)
def test_columns_that_are_wrong(tmp_path, content, message):
    for name in ("train", "test"):
        write(tmp_path / f"{name}-0.parquet", content)
    with pytest.raises(DataError, match=message):
        open_data(f"parquet:{tmp_path}", "none")


def test_texts_that_are_missing(tmp_path):
    write_texts(tmp_path)
    write(tmp_path / "test-0.parquet", table({"text": pa.array([None, "a"]), "label": [0, 0]}))
    with pytest.raises(
        DataError, match=r"test-0.parquet has 1 rows without a value in column text"
    ):
        open_data(f"parquet:{tmp_path}", "none")


def test_files_of_other_columns(folder):
    path = folder / "validation-00000-of-00001.parquet"
    write(path, table({"image": pictures(0, 2), "labels": [0, 0]}))
    with pytest.raises(
        DataError, match=r"00001.parquet has no column label, which .*00002.parquet has"
    ):
        open_data(f"parquet:{folder}", "none")
    write(path, table({"image": pictures(0, 2), "label": ["a", "b"]}))
    with pytest.raises(
        DataError, match=r"holds string as column label, .*parquet int64: all files"
    ):
        open_data(f"parquet:{folder}", "none")


def test_files_that_are_damaged_or_missing(folder):
    spec, path = f"parquet:{folder}", folder / "train-00001-of-00002.parquet"
    data = open_data(spec, "none")
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(
        DataError, match=r"00002.parquet cannot be read as Parquet file \(.*\): get it"
    ):
        open_data(spec, "none")
    path.unlink()
    source = data._encoded["train"]._source
    source._kept.clear()
    with pytest.raises(DataError, match=r"cannot be read as Parquet file \(.*No such file"):
        source.read(8)
    other = folder / "validation-00000-of-00001.parquet"
    other.rename(folder / "more.parquet")
    with pytest.raises(
        DataError, match=r"no file matches .*test-\*.parquet: add validation=PATTERN"
    ):
        open_data(spec, "none")
    assert open_data(f"{spec},validation={folder}/more.parquet", "none").validation_size == 3
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(
        DataError, match=r"holds no train-\*.parquet, data/train-\*.parquet, train/\*"
    ):
        open_data(spec, "none")


def test_without_pyarrow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r'needs pyarrow: pip install "arignote\[parquet\]"$'):
        open_data(f"parquet:{folder}", "none")


def test_the_form_of_the_spec(folder):
    with pytest.raises(
        UserError, match=r"takes 1 argument, got none: write parquet:DIR_OR_PATTERN"
    ):
        open_data("parquet", "none")
    with pytest.raises(UserError, match="parquet: unknown key 'lable': did you mean 'label'"):
        open_data(f"parquet:{folder},lable=x", "none")
