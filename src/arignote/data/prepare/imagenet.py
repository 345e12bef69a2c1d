"""ImageNet (ILSVRC 2012) as it is downloaded: archives that need not be unpacked.

The labels of the validation images come from a text file, because the development kit has
them as numbers whose meaning only a MATLAB file tells: docs/prepare.md says how to make it.
"""

from __future__ import annotations

from pathlib import Path

from arignote.data.prepare.samples import Sample, Source
from arignote.data.prepare.tars import list_images, list_inner_images
from arignote.errors import DataError, unknown

TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LABELS = "val_labels.txt"


def list_imagenet(folder: Path) -> Source:
    """The images of `TRAIN` (a tar of one tar a class) and of `VALIDATION`.

    Raises:
        DataError: a file is missing or damaged, or a validation image has no label.
    """
    for name, what in (
        (VALIDATION, "put it beside the other"),
        (LABELS, "make it of lines FILENAME CLASS, as docs/prepare.md says"),
    ):
        if not (folder / name).is_file():
            raise DataError(f"{folder} has {TRAIN} and no {name}: {what}")
    archive = folder / TRAIN
    inner = list_inner_images(archive)
    classes = {name: number for number, name in enumerate(inner)}
    train = [
        Sample("/".join((TRAIN, name, *m.parts)), str(archive), number, m.offset, m.size)
        for (name, members), number in zip(inner.items(), classes.values(), strict=True)
        for m in members
    ]
    if not train:
        raise DataError(f"{archive} holds no tars of images: get it again")
    labels = _read_labels(folder / LABELS, classes)
    return Source(tuple(classes), train, _list_validation(folder / VALIDATION, labels))


def _list_validation(archive: Path, labels: dict[str, int]) -> list[Sample]:
    samples = []
    for member in list_images(archive):
        name = member.parts[-1]
        if name not in labels:
            raise DataError(f"{archive.parent / LABELS} has no line for {name}: add {name} CLASS")
        place = "/".join((VALIDATION, *member.parts))
        samples.append(Sample(place, str(archive), labels[name], member.offset, member.size))
    return samples


def _read_labels(path: Path, classes: dict[str, int]) -> dict[str, int]:
    """File name -> class of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: expected lines FILENAME CLASS") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    labels = {}
    for number, line in enumerate(lines, 1):
        match line.split():
            case [name, label]:
                if label not in classes:
                    raise DataError(f"{path} line {number}: {unknown('class', label, classes)}")
                labels[name] = classes[label]
            case [_, *_]:
                raise DataError(f"{path} line {number}: got {line!r}, expected FILENAME CLASS")
    return labels
