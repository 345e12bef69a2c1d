"""Parquet and Arrow files, as Hugging Face's datasets write them: labelled images or texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_arguments
from arignote.data.arrays import ArrayDataset
from arignote.data.augmentation.chain import refuse_augmentation
from arignote.data.encoded_dataset import EncodedDataset
from arignote.data.labelled_texts import LabelledTexts, TextOptions
from arignote.errors import UserError

if TYPE_CHECKING:
    from arignote.data.labelled_tables import Tables

_FORM = "parquet:DIR_OR_PATTERN[,validation=PATTERN][,image=,text=,label=COLUMN][,size=N]"


class ParquetOptions(TextOptions):
    """Which files validate, which columns are read, and the options of images and of texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: str = ""
    image: str = ""
    text: str = ""
    label: str = ""
    size: Count = 0


class Parquet(ArrayDataset):
    """`parquet:DIR`: DIR/train-*.parquet and validation-*.parquet (or val-*, test-*).

    DIR/data is looked into as well; what `save_to_disk` writes, DIR/train/*.arrow, is read too.
    Images are a column of bytes, or of structures with `bytes`; texts a column of strings; labels
    one of whole numbers, whose names the files may hold.
    """

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Parquet:
        """Open `parquet:DIR_OR_PATTERN`, as `ParquetImages` or as `ParquetTexts`.

        Raises:
            UserError: the spec is not of that form, pyarrow is missing, or texts are to be
                augmented.
            DataError: a file is missing or damaged, or does not have the columns.
        """
        expect_arguments(spec, 1, _FORM)
        options = parse_options(ParquetOptions, spec, "data set parquet")
        try:
            import pyarrow  # noqa: F401 - only whether it is there
        except ImportError:
            raise UserError(
                'data set parquet needs pyarrow: pip install "arignote[parquet]"'
            ) from None
        from arignote.data.labelled_tables import Tables

        tables = Tables(spec, options)
        if tables.hold_images:
            return ParquetImages(tables, spec, options, augment=augment)
        refuse_augmentation(augment, "parquet")
        return ParquetTexts(tables, options)


class ParquetImages(Parquet, EncodedDataset):
    """Samples (3, H, W). Groups of rows are read when an image in them is asked for.

    All images become RGB.
    """

    def __init__(
        self, tables: Tables, spec: Spec, options: ParquetOptions, *, augment: str
    ) -> None:
        """Decode the first image.

        Raises:
            DataError: an image is bad.
        """
        super().__init__(
            *tables.images(),
            size=options.size,
            spec=str(spec),
            classes=tables.classes,
            train_labels=tables.train_labels,
            validation_labels=tables.validation_labels,
            augment=augment,
        )


class ParquetTexts(Parquet, LabelledTexts):
    """Samples (length,) of word numbers."""

    def __init__(self, tables: Tables, options: ParquetOptions) -> None:
        """Read all texts.

        Raises:
            DataError: a text is missing.
        """
        super().__init__(*tables.texts(), classes=tables.classes, options=options)
