"""Folders of JPEG and PNG files, one folder a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.class_folders import IMAGES, ClassFiles, labels, paths
from arignote.data.decode import ImageFiles, bad_images
from arignote.data.encoded_dataset import EncodedDataset
from arignote.errors import DataError

_FORM = "imagefolder:DIR[,skip_bad=true][,size=N][,keep=false]"


class ImageFolderOptions(BaseModel):
    """What to do with images that are bad or of different sizes; whether to keep them decoded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    skip_bad: bool = False
    size: Count = 0
    keep: bool = True
    """What fits into memory; if not, each is decoded whenever it is needed."""


class ImageFolder(EncodedDataset):
    """`imagefolder:DIR`: samples (3, H, W), classes named after the folders in DIR/train.

    Validation images are in DIR/val, DIR/validation or DIR/test, the first of these that
    exists. Names that begin with a dot are left alone. All images become RGB.
    """

    def __init__(
        self,
        folder: Path,
        options: ImageFolderOptions,
        *,
        augment: str,
        bad: Sequence[str] | None = None,
    ) -> None:
        """List the files; with `skip_bad`, decode each once to leave out the bad ones.

        `bad`: these files are known to be the bad ones.

        Raises:
            DataError: a folder is missing, empty or unexpected, or an image is bad.
        """
        train, validation = IMAGES.list_splits(folder)
        classes = tuple(train)
        if options.skip_bad:
            if bad is None:
                bad = bad_images([*paths(train), *paths(validation)])
            self.skipped = tuple(bad)
            train, validation = (_without(files, set(bad)) for files in (train, validation))
        size = options.size
        spec = f"imagefolder:{folder}{f',size={size}' if size else ''}"
        super().__init__(
            ImageFiles(paths(train)),
            ImageFiles(paths(validation)),
            size=size,
            spec=spec,
            advice=f"replace it, or leave out such files with {spec},skip_bad=true",
            keep=options.keep,
            classes=classes,
            train_labels=labels(train, classes),
            validation_labels=labels(validation, classes),
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> ImageFolder:
        """Open `imagefolder:DIR[,skip_bad=true][,size=N][,keep=false]`.

        Raises:
            UserError: the spec is not of that form.
            DataError: a folder is missing, empty or unexpected, or an image is bad.
        """
        folder = expect_folder(spec, _FORM)
        options = parse_options(ImageFolderOptions, spec, "data set imagefolder")
        return cls(folder, options, augment=augment)

    def known(self) -> dict[str, Any]:
        """Also which files are bad."""
        return {**super().known(), "skipped": list(self.skipped)}

    @classmethod
    def open_again(cls, spec: Spec, *, augment: str, known: Mapping[str, Any]) -> ImageFolder:
        """See `Dataset.open_again`: no file is decoded.

        Raises:
            DataError: a folder is gone.
        """
        folder = expect_folder(spec, _FORM)
        options = parse_options(ImageFolderOptions, spec, "data set imagefolder")
        dataset = cls(folder, options, augment=augment, bad=known["skipped"])
        dataset.learn(known)
        return dataset


def _without(classes: ClassFiles, bad: set[str]) -> ClassFiles:
    kept = {name: [p for p in files if p not in bad] for name, files in classes.items()}
    for name, files in kept.items():
        if not files:
            raise DataError(
                f"{Path(classes[name][0]).parent} holds bad images only: put good ones there, or "
                "remove the folder"
            )
    return kept
