"""`piwsl doctor`: check what works on this machine."""

from typing import TYPE_CHECKING

import click

from piwsl.cli.command import Command

if TYPE_CHECKING:
    from piwsl.interfaces.doctor import Check


@click.command(name="doctor", cls=Command)
def command() -> None:
    """Check versions, devices, OpenMM platforms and forces, and report which of them work on this machine."""
    from rich.console import Console
    from rich.table import Table

    from piwsl.interfaces.doctor import examine

    console = Console()
    if not console.is_terminal:
        for check in examine():
            click.echo(line(check))
        return
    table = Table("", "", "result", "what to do", title="piwsl doctor")
    group = None
    with console.status("testing platforms and forces"):
        for check in examine():
            if group not in (None, check.group):
                table.add_section()
            group = check.group
            mark = "[green]works[/]" if check.works else "[yellow]no[/]"
            # Escape the brackets of install commands, which rich would interpret as markup.
            table.add_row(mark, check.name, check.detail.replace("[", r"\["), check.install.replace("[", r"\["))
    console.print(table)


def line(check: "Check") -> str:
    """Return the result of a check as a line of plain text."""
    advice = f"  ->  {check.install}" if check.install else ""
    return f"{'ok' if check.works else '--':3}{check.group:9} {check.name:26} {check.detail}{advice}"
