"""From the text of a data spec to the data set."""

from __future__ import annotations

from arignote.config.spec import parse_spec
from arignote.data.base import Dataset
from arignote.registry import DATA


def open_data(text: str, augment: str) -> Dataset:
    """Open the data set that a spec such as `idx:/data/mnist` names.

    Raises:
        UserError: the spec, its name or one of its options is not known.
        DataError: the data is missing, empty, damaged, or its labels or shapes do not fit.
    """
    spec = parse_spec(text)
    dataset: Dataset = DATA.load(spec.name).open(spec, augment=augment)
    # Found out now, not in the first batch: a bad image is told before anything is built.
    dataset.known()
    return dataset
