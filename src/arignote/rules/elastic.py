"""How far worker and centre move towards each other: for both forms of EASGD."""

from __future__ import annotations

import math

from arignote.config.rule_options import ElasticOptions
from arignote.rules.base import Bring


def server_rate(options: ElasticOptions, bring: Bring, default: float) -> float:
    """beta, as far as it has decayed; `default`: where no option says."""
    base = default if options.server_alpha is None else options.server_alpha
    epochs = 0 if math.isnan(bring.epochs_done) else math.floor(bring.epochs_done)
    return base * options.server_decay**epochs


def remarks_on_alpha(options: ElasticOptions, workers: int, *, together: bool) -> list[str]:
    """What is to be said of alphas outside of their stable range (the paper's section 5)."""
    default = 1 / workers if together else options.alpha
    beta = default if options.server_alpha is None else options.server_alpha
    remarks = []
    if options.alpha > 1:
        remarks.append(
            f"easgd: alpha={options.alpha:g} is out of its stable range (0, 1]: a worker is thrown "
            "past the centre"
        )
    if together and workers * beta > 1:
        remarks.append(
            f"easgd-sync: {workers} workers with server_alpha={beta:g} move the centre "
            f"{workers * beta:g} times the way to their mean; stable is (0, {1 / workers:.3g}]"
        )
    elif beta > 1:
        remarks.append(
            f"easgd: server_alpha={beta:g} is out of its stable range (0, 1]: the centre is thrown "
            "past the worker"
        )
    return remarks
