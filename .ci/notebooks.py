"""Runs the tutorials and turns them into pages of the documentation site.

A tutorial is a notebook in jupytext's percent format. It runs from top to bottom in a kernel of its
own and an empty directory; an error in it ends the build. Its page is Markdown with the outputs, so
that it looks like every other page and loads nothing from other servers. With the environment
variable TUTORIALS=skip, for work on other pages, nothing runs and the pages have no outputs.
"""

import functools
import os
import re
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

FRAME = re.compile(r'<style scoped>.*?</style>\n| border="1" class="dataframe"', re.DOTALL)
SECONDS = 300
"""Longest time of one cell."""
QUIET = ["--log-level=40"]
"""Of the kernel: no warning that it listens on a local port."""


@functools.cache
def page(source: str, name: str) -> tuple[str, dict[str, bytes], str]:
    """Runs a tutorial.

    Args:
        source: the tutorial's text.
        name: its file's name without ending.

    Returns:
        Its page, its pictures by their paths next to the page, and the notebook as JSON.
    """
    notebook = jupytext.reads(source, fmt="py:percent")
    if os.environ.get("TUTORIALS") != "skip":
        _run(notebook)
    for cell in notebook.cells:
        if "outputs" in cell:  # progress is for whoever waits
            cell.outputs = [one for one in cell.outputs if not _is_progress(one)]
    exporter = MarkdownExporter()
    text, resources = exporter.from_notebook_node(
        notebook, {"output_files_dir": f"{name}_files", "unique_key": name}
    )
    return FRAME.sub("", text), resources["outputs"], nbformat.writes(notebook)


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output was written to stderr, or by rich, which displays lines in notebooks."""
    shown = output.get("data", {}).get("text/html", "")
    return output.get("name") == "stderr" or shown.startswith('<pre style="white-space:pre;')


def _run(notebook: nbformat.NotebookNode) -> None:
    with tempfile.TemporaryDirectory() as directory:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": directory}},
            extra_arguments=QUIET,
        ).execute()


def pages(folder: Path) -> dict[str, str | bytes]:
    """Every page, picture and notebook of the tutorials in a folder, by its path in the site."""
    found: dict[str, str | bytes] = {}
    for path in sorted(folder.glob("*.py")):
        text, pictures, notebook = page(path.read_text(encoding="utf-8"), path.stem)
        heading, _, rest = text.partition("\n\n")
        note = f"*This page is a notebook: [download it]({path.stem}.ipynb).*"
        found[f"{folder.name}/{path.stem}.md"] = f"{heading}\n\n{note}\n\n{rest}"
        found[f"{folder.name}/{path.stem}.ipynb"] = notebook
        found |= {f"{folder.name}/{name}": content for name, content in pictures.items()}
    return found
