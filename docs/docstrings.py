"""Gives each argument, attribute and error of a docstring an item of its own in the Python
reference: the reader of docstrings takes several on one line for one, and cuts errors off at their
second line."""

from __future__ import annotations

from typing import Any

import griffe

from trustvlm.http.routes.docstrings import divided


class OneItemEach(griffe.Extension):
    """Changes docstrings when they are loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Divide the sections of an object's docstring into items."""
        if obj.docstring is not None:
            obj.docstring.value = divided(obj.docstring.value)
