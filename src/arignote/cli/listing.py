"""`arignote list`: what each family has."""

from __future__ import annotations

import click

from arignote.registry import CODECS, DATA, MODELS, ROUTES, RULES, Registry

_FAMILIES: dict[str, tuple[Registry, ...]] = {
    "rules": (RULES,),
    "exchanges": (ROUTES, CODECS),
    "models": (MODELS,),
    "data": (DATA,),
}


@click.command("list")
@click.argument("family", required=False, type=click.Choice(list(_FAMILIES)))
def list_families(family: str | None) -> None:
    """List rules, exchanges (routes and codecs), models and data sets."""
    for name in [family] if family else _FAMILIES:
        for registry in _FAMILIES[name]:
            click.echo(f"{registry.kind}s")
            for entry in registry:
                click.echo(f"  {entry.name:<17} {entry.summary}")
