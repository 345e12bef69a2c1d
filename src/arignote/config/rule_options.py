"""The options of each rule, `--rule name:key=value`: validated before any process starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arignote.config.spec import parse_options, parse_spec
from arignote.errors import UserError
from arignote.registry import RULES

Period = Annotated[int, Field(ge=1, le=10**9)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class RuleOptions(BaseModel):
    """Base of all rules' options, with what a launcher must know of the rule."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @property
    def carries(self) -> Literal["gradients", "weights", "deltas"]:
        """What goes over the wire; an error made in weights stays, one in the others is made up."""
        return "weights"

    @property
    def asynchronous(self) -> bool:
        """Whether workers need not keep step: each takes the next batch when it is free."""
        return False

    @property
    def has_centre(self) -> bool:
        """Whether servers hold a centre."""
        return False


class BSPOptions(RuleOptions):
    """Options of bsp."""

    scheme: Literal["gradient", "weights"] = "gradient"
    """gradient: average gradients, then update (cdd); weights: update, then average (avg)."""
    sharded: Literal["auto", "on", "off"] = "auto"
    """Each worker updates its share of the weights; auto: on one host, where it can be."""
    overlap: Literal["auto", "on", "off"] = "auto"
    """Exchange while backward still runs; auto: between hosts, where it can be."""

    @property
    def carries(self) -> Literal["gradients", "weights", "deltas"]:
        """See `RuleOptions.carries`."""
        return "weights" if self.scheme == "weights" else "gradients"

    @model_validator(mode="after")
    def _one_of_them(self) -> BSPOptions:
        if self.sharded == "on" and self.overlap == "on":
            raise ValueError(
                "sharded=on and overlap=on exclude each other: weights can only be gathered once "
                "they are updated; choose one"
            )
        for name in ("sharded", "overlap"):
            if self.scheme == "weights" and getattr(self, name) == "on":
                raise ValueError(f"{name}=on goes with scheme=gradient only: leave it out")
        return self


class _Asynchronous(RuleOptions):
    @property
    def asynchronous(self) -> bool:
        """See `RuleOptions.asynchronous`."""
        return True


class ElasticOptions(RuleOptions):
    """What both forms of EASGD take."""

    alpha: NonNegative = 0.5
    """How far a worker moves towards the centre in a round."""
    period: Period = 10
    """Steps of a worker between its rounds (the paper's tau)."""
    server_alpha: NonNegative | None = None
    """How far the centre moves towards each worker; unset: alpha (easgd), 1/n (easgd-sync)."""
    server_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What server_alpha is multiplied by after every epoch."""


class EASGDOptions(ElasticOptions, _Asynchronous):
    """Options of easgd."""

    momentum: Fraction = 0.0
    """EAMSGD: Nesterov momentum of a worker, around an optimizer that has none; 0: off."""

    @property
    def has_centre(self) -> bool:
        """See `RuleOptions.has_centre`."""
        return True


class EASGDSyncOptions(ElasticOptions):
    """Options of easgd-sync."""


class ASGDOptions(_Asynchronous):
    """Options of asgd."""

    period: Period = 1
    """Steps of a worker between its rounds."""
    staleness: Literal["ignore", "divide"] = "ignore"
    """divide: a push that is s rounds of others late counts 1/(1+s)."""
    compensation: Literal["none", "constant", "adaptive"] = "none"
    """Delay compensation (DC-ASGD): how lambda is chosen."""
    strength: NonNegative = 0.04
    """Its lambda."""
    decay: Fraction = 0.95
    """adaptive: decay of the mean square that lambda is divided by (the paper's m)."""

    @property
    def has_centre(self) -> bool:
        """See `RuleOptions.has_centre`."""
        return True


class GOSGDOptions(_Asynchronous):
    """Options of gosgd."""

    p: Share = 0.1
    """Probability that a worker pushes after a step."""


class ADPSGDOptions(_Asynchronous):
    """Options of adpsgd."""

    period: Period = 1
    """Steps of a worker between the averages that it asks for."""


class SGPOptions(RuleOptions):
    """Options of sgp."""

    overlap: Annotated[int, Field(ge=0, le=64)] = 0
    """Steps that a message may be late (the paper's tau); 0: wait for it."""


class _Periodic(RuleOptions):
    period: Period = 8
    """Steps between rounds."""


class LocalSGDOptions(_Periodic):
    """Options of local-sgd."""


class PostLocalOptions(_Periodic):
    """Options of post-local."""

    drop: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The period counts once the learning rate is at or below this part of its highest."""


class SlowMoOptions(_Periodic):
    """Options of slowmo."""

    alpha: Positive = 1.0
    """Slow learning rate."""
    beta: Fraction = 0.7
    """Slow momentum."""


class DiLoCoOptions(_Periodic):
    """Options of diloco."""

    period: Period = 50
    """Steps between rounds (the paper's H)."""
    outer_learning_rate: Positive = 0.7
    """Learning rate of the outer optimizer."""
    outer_momentum: Fraction = 0.9
    """Its Nesterov momentum."""

    @property
    def carries(self) -> Literal["gradients", "weights", "deltas"]:
        """See `RuleOptions.carries`."""
        return "deltas"


class StreamingDiLoCoOptions(DiLoCoOptions):
    """Options of streaming-diloco."""

    fragments: Annotated[int, Field(ge=1, le=1024)] = 4
    """Parts of the model, each with rounds of its own."""
    delay: Annotated[int, Field(ge=0, le=10**6)] = 1
    """Steps between the sending of a fragment and its merge (the paper's tau)."""
    own: Share = 0.5
    """Part of the worker's own weights in the merge (the paper's alpha); 0: the new ones alone."""

    @model_validator(mode="after")
    def _fits(self) -> StreamingDiLoCoOptions:
        if self.fragments > self.period:
            raise ValueError(
                f"fragments={self.fragments} do not fit into period={self.period}: one fragment a "
                "step at most"
            )
        if self.delay >= self.period:
            raise ValueError(
                f"delay={self.delay} is no shorter than period={self.period}: a fragment must be "
                "merged before it is sent again"
            )
        return self


class SwapOptions(_Periodic):
    """Options of swap."""

    period: Period = 50
    """Steps between rounds."""


class TwoLevelOptions(RuleOptions):
    """The two rules of INNER/OUTER; each keeps its own options."""

    inner: str = "bsp"
    """The rule inside a host."""
    outer: str = "diloco"
    """The rule across hosts."""

    @property
    def carries(self) -> Literal["gradients", "weights", "deltas"]:
        """As the outer rule, whose bytes are the dear ones."""
        return parse_rule(self.outer)[1].carries


TWO_LEVEL = "two-level"
INNER = ("bsp", "local-sgd")
OUTER = ("local-sgd", "post-local", "slowmo", "diloco", "streaming-diloco")

OPTIONS: dict[str, type[RuleOptions]] = {
    "bsp": BSPOptions,
    "easgd": EASGDOptions,
    "easgd-sync": EASGDSyncOptions,
    "asgd": ASGDOptions,
    "gosgd": GOSGDOptions,
    "sgp": SGPOptions,
    "adpsgd": ADPSGDOptions,
    "local-sgd": LocalSGDOptions,
    "post-local": PostLocalOptions,
    "slowmo": SlowMoOptions,
    "diloco": DiLoCoOptions,
    "streaming-diloco": StreamingDiLoCoOptions,
    "swap": SwapOptions,
    TWO_LEVEL: TwoLevelOptions,
}


def parse_rule(text: str) -> tuple[str, RuleOptions]:
    """`bsp:scheme=weights` -> ("bsp", BSPOptions(scheme="weights")).

    `INNER/OUTER`, such as `bsp/diloco:period=50`, is a rule for each host and one across them.

    Raises:
        UserError: the rule or one of its options is unknown, or a value is not allowed.
    """
    if "/" in text:
        return TWO_LEVEL, _two_levels(text)
    spec = parse_spec(text)
    RULES.entry(spec.name)
    model = OPTIONS[spec.name]
    if spec.name == TWO_LEVEL:
        raise UserError("two-level is written INNER/OUTER, such as bsp/diloco:period=50")
    if spec.arguments:
        raise UserError(
            f"rule {spec.name}: got {spec.arguments[0]!r}, expected key=value; "
            f"keys: {', '.join(model.model_fields)}"
        )
    options: RuleOptions = parse_options(model, spec, f"rule {spec.name}")
    return spec.name, options


def _two_levels(text: str) -> TwoLevelOptions:
    parts = text.split("/")
    if len(parts) != 2:
        raise UserError(f"rule {text}: got {len(parts)} levels, expected INNER/OUTER")
    for part, level, allowed in zip(parts, ("inside", "across"), (INNER, OUTER), strict=True):
        name, _ = parse_rule(part)
        if name not in allowed:
            raise UserError(
                f"rule {text}: {name} cannot be the rule {level} hosts: use one of "
                f"{', '.join(allowed)}"
            )
    inner = parse_rule(parts[0])[1]
    if isinstance(inner, BSPOptions) and inner.sharded == "on":
        raise UserError(
            f"rule {text}: bsp:sharded=on cannot be inside hosts, since the outer rule changes all "
            "weights: leave it out"
        )
    return TwoLevelOptions(inner=parts[0], outer=parts[1])
