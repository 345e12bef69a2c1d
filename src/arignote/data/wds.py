"""WebDataset: tar files of images with their labels, read at any place."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_arguments
from arignote.data.encoded_dataset import EncodedDataset
from arignote.data.labels import PlacedLabels, named_classes, read_class_names
from arignote.data.patterns import match_files, validation_files
from arignote.data.tar_index import TarImages
from arignote.errors import DataError

_FORM = "wds:PATTERN[,validation=PATTERN][,size=N], such as wds:DIR/train-{000..012}.tar"


class WebDatasetOptions(BaseModel):
    """Which tars validate, and what to do with images of different sizes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: str = ""
    size: Count = 0


class WebDataset(EncodedDataset):
    """`wds:PATTERN`: samples (3, H, W) of KEY.jpg, .jpeg or .png, labels of KEY.cls or KEY.json.

    Tars are indexed when they are opened; images are then read where they lie, in any order.
    Classes are the lines of classes.txt beside the first tar, else "0" to the largest label.
    All images become RGB.
    """

    def __init__(self, spec: Spec, options: WebDatasetOptions, *, augment: str) -> None:
        """Index the tars.

        Raises:
            DataError: a tar is missing or damaged, or a sample, label or image is bad.
        """
        (pattern,) = spec.arguments
        files = match_files(pattern)
        if options.validation:
            other, other_files = options.validation, match_files(options.validation)
        else:
            other, other_files = validation_files(pattern)
        train, validation = TarImages(files), TarImages(other_files)
        for name, source in ((pattern, train), (other, validation)):
            if not len(source):
                raise DataError(f"{name} holds no samples: expected KEY.jpg and KEY.cls in each")
        classes = named_classes(
            read_class_names(Path(files[0]).parent),
            "classes.txt",
            PlacedLabels(train.labels, pattern),
            PlacedLabels(validation.labels, other),
        )
        super().__init__(
            train,
            validation,
            size=options.size,
            spec=str(spec),
            classes=classes,
            train_labels=train.labels,
            validation_labels=validation.labels,
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> WebDataset:
        """Open `wds:PATTERN[,validation=PATTERN][,size=N]`.

        Raises:
            UserError: the spec is not of that form.
            DataError: a tar is missing or damaged, or a sample, label or image is bad.
        """
        expect_arguments(spec, 1, _FORM)
        options = parse_options(WebDatasetOptions, spec, "data set wds")
        return cls(spec, options, augment=augment)
