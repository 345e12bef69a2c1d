"""`arignote list`: what each family has."""

from __future__ import annotations

import click

from arignote.registry import AUGMENTATIONS, CODECS, DATA, MODELS, ROUTES, RULES, Registry

_FAMILIES: dict[str, tuple[Registry, ...]] = {
    "rules": (RULES,),
    "exchanges": (ROUTES, CODECS),
    "models": (MODELS,),
    "data": (DATA,),
    "augmentations": (AUGMENTATIONS,),
}


@click.command("list", short_help="List rules, exchanges, models, data sets, augmentations.")
@click.argument("family", required=False, type=click.Choice(list(_FAMILIES)))
def list_families(family: str | None) -> None:
    """List rules, exchanges (routes and codecs), models, data sets and augmentations."""
    for name in [family] if family else _FAMILIES:
        for registry in _FAMILIES[name]:
            if registry is MODELS:
                _list_models()
                continue
            click.echo(f"{registry.kind}s")
            for entry in registry:
                click.echo(f"  {entry.name:<17} {entry.summary}")


def _list_models() -> None:
    """Name, parameters, input (a sample's shape, classes), paper and summary in columns."""
    rows = [("models", "parameters", "input, classes", "paper", "")]
    rows += [
        (f"  {entry.name}", f"{entry.parameters:,}", entry.input, entry.paper or "-", entry.summary)
        for entry in MODELS
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, parameters, *words in rows:
        cells = [name.ljust(widths[0]), parameters.rjust(widths[1])]
        cells += [word.ljust(width) for word, width in zip(words, widths[2:], strict=True)]
        click.echo("  ".join(cells).rstrip())
