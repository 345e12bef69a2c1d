"""One registry for each family: a name, the place that implements it, one line about it.

Entries are strings, so that listing a family imports none of its members: the launcher
and `arignote list` know every name without importing torch.
"""

from arignote.registry.augmentations import AUGMENTATIONS
from arignote.registry.base import Entry, Registry
from arignote.registry.data import DATA
from arignote.registry.exchange import CODECS, ROUTES
from arignote.registry.models import MODELS
from arignote.registry.rules import RULES

__all__ = ["AUGMENTATIONS", "CODECS", "DATA", "MODELS", "ROUTES", "RULES", "Entry", "Registry"]
