"""Tables in, a report and a flagfile out."""

from __future__ import annotations

from mmnet.config import InspectConfig
from mmnet.console import console
from mmnet.data.outputs import write_named
from mmnet.inspection import looking, report


def inspect(flags: InspectConfig) -> None:
    """Looks at tables and proposes a flagfile for them.

    Raises:
        InputError: no flagfile can be proposed.
    """
    found = looking.look(flags)
    console.print(report.text(found), end="")
    flagfile = report.flagfile(found)
    if flags.output:
        write_named(flags.output, flagfile, "output")
        console.print(f"\nflagfile: {flags.output}")
    else:
        console.print(f"\n## Flagfile\n\n{flagfile}", end="")
