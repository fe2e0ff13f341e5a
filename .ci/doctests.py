"""Shows the doctests of docstrings as code; Markdown would take `>>>` for a quotation."""

import re

import griffe

DOCTEST = re.compile(r"^>>> .*?(?=\n[ \t]*\n(?!>>> )|\Z)", re.MULTILINE | re.DOTALL)


class Doctests(griffe.Extension):
    """Puts fences around doctests, for mkdocstrings."""

    def on_instance(self, *, obj, **kwargs):
        """Rewrites the docstring of one object."""
        if isinstance(obj, griffe.Object) and obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
