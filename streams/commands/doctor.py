"""`tideline doctor`: check this installation, line by line."""
# ruff: noqa: PLC0415

from __future__ import annotations

import os
from dataclasses import asdict

import click

from streams.commands.support import Invocation, json_option, pass_invocation, print_json

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@json_option
@pass_invocation
@click.pass_context
def doctor(ctx: click.Context, invocation: Invocation, as_json: bool) -> None:
    """Check this installation: packages, settings, model, Kafka, topics, ClickHouse, tables.

    Each line is ok, warn or fail; what is not ok comes with its fix. Exits 1 if anything failed.
    """
    from streams.ops.doctor import Finding, examine

    findings: list[Finding] = []
    for finding in examine(os.environ, invocation.config):
        findings.append(finding)
        if as_json:
            continue
        state = click.style(f"{finding.state:<4}", fg=_COLOURS[finding.state])
        click.echo(f"{state}  {finding.check:<10}  {finding.detail}")
        if finding.fix:
            click.echo(f"{'':18}fix: {finding.fix}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    ctx.exit(1 if any(finding.state == "fail" for finding in findings) else 0)
