"""`piwsl doctor`: say what works on this machine."""

import click


@click.command(name="doctor")
def command() -> None:
    """Say which versions, devices, OpenMM platforms and forces work here, by trying each."""
    from rich.console import Console
    from rich.table import Table

    from piwsl.interfaces.doctor import examine

    console = Console()
    if not console.is_terminal:
        for check in examine():
            advice = f"  ->  {check.install}" if check.install else ""
            click.echo(f"{'ok' if check.works else '--':3}{check.group:9} {check.name:26} {check.detail}{advice}")
        return
    table = Table("", "", "what was found", "what to do", title="piwsl doctor")
    group = None
    with console.status("trying platforms and forces"):
        for check in examine():
            if group not in (None, check.group):
                table.add_section()
            group = check.group
            mark = "[green]works[/]" if check.works else "[yellow]no[/]"
            # Escaped: an install line holds brackets.
            table.add_row(mark, check.name, check.detail.replace("[", r"\["), check.install.replace("[", r"\["))
    console.print(table)
