"""Builds the documentation site from the files that people read in the repository.

The pages under `docs/`, the pages at the top of the repository and the results pages under
`experiments/` link to each other by relative paths, as GitHub shows them. These hooks of MkDocs add
the pages that are outside `docs/`, rewrite the links, and write lists and tables so that
Python-Markdown reads them as GitHub does. A link to a file that is not part of the site, a flagfile
for example, becomes its text with the file's path.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import notebooks  # noqa: E402

TOP = {
    "README.md": "index.md",
    "BUILD_NOTES.md": "build-notes.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages at the top of the repository, and where they are in the site."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*(```|~~~)")
CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
ITEM = re.compile(r"^(?:[-*+]|\d+\.) ")


TUTORIALS = ("decision", "layers", "paper", "nightly")
"""The order in which the site shows them; any others follow."""


def on_config(config):
    """Puts the tutorials into the navigation, behind the page that begins."""
    names = {path.stem for path in (ROOT / "docs/tutorials").glob("*.py")}
    order = [name for name in TUTORIALS if name in names] + sorted(names - {*TUTORIALS})
    if order:
        config.nav.insert(2, {"Tutorials": [f"tutorials/{name}.md" for name in order]})
    return config


def on_files(files, config):
    """Adds the pages and pictures that are outside `docs/`, and the tutorials."""
    for name, uri in TOP.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "experiments").rglob("*")):
        if path.suffix in (".md", ".png", ".svg") and path.is_file():
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for uri, content in notebooks.pages(ROOT / "docs/tutorials").items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites one page for the site."""
    lines, fenced, drawing, before = [], False, False, ""
    for line in markdown.splitlines():
        if FENCE.match(line):
            fenced = not fenced
            if line.startswith("```mermaid"):  # drawing it would need a program of another server
                lines += [
                    '<details markdown="1"><summary>The graph as Mermaid source</summary>',
                    "",
                ]
                drawing = True
            elif drawing and not fenced:
                line, drawing = f"{line}\n</details>", False
        elif not fenced:
            # Python-Markdown needs an empty line in front of a list.
            if ITEM.match(line) and before.strip() and not ITEM.match(before) and before[0] != " ":
                lines.append("")
            if line.startswith("|"):  # and no backslash in front of a bar inside code
                line = CODE.sub(lambda code: code[0].replace(r"\|", "|"), line)
            line = LINK.sub(lambda link: _rewritten(link, page.file.src_uri, files), line)
        lines.append(line)
        before = line
    return "\n".join(lines)


def _rewritten(link, page, files):
    """A link of a page as it is in the site."""
    picture, text, target = link.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in target or target.startswith("mailto:"):
        return link[0]
    source = next((name for name, uri in TOP.items() if uri == page), None)
    source = source or (page if page.startswith("experiments/") else f"docs/{page}")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if place.startswith("docs/tutorials/") and place.endswith(".py"):
        place = place.removesuffix(".py") + ".md"  # the page that it becomes
    made = files.get_file_from_path(place.removeprefix("docs/"))  # of a tutorial, for example
    if made is None and (place.startswith("..") or not (ROOT / place).exists()):
        raise PluginError(f"{source}: the link to {target} leads to no file")
    if (ROOT / place).is_dir() and (ROOT / place / "README.md").exists():
        place = f"{place}/README.md"
    uri = TOP.get(place, place.removeprefix("docs/"))
    if files.get_file_from_path(uri) is None:
        return text if text.strip("`") == place else f"{text} (`{place}` in the repository)"
    here = posixpath.relpath(uri, posixpath.dirname(page) or ".")
    return f"{picture}[{text}]({here}{'#' if anchor else ''}{anchor})"
