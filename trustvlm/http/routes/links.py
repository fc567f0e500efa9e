"""Links of the OpenAPI document: which requests an answer gives what it takes for."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["link"]

_SPACE = {"space": "$request.path.space"}
_FOUND: dict[tuple[str, str, str], tuple[str, dict[str, str]]] = {
    ("post", "/v1/spaces", "201"): ("space", {"space": "$response.body#/name"}),
    ("get", "/v1/spaces", "200"): ("space", {"space": "$response.body#/spaces/0/name"}),
    ("get", "/v1/spaces/{space}/labels", "200"): (
        "label",
        {**_SPACE, "label": "$response.body#/labels/0/name"},
    ),
    ("get", "/v1/spaces/{space}/labels/{label}/supports", "200"): (
        "support",
        {**_SPACE, "support": "$response.body#/supports/0/id"},
    ),
    ("get", "/v1/spaces/{space}/calibrations", "200"): (
        "calibration",
        {**_SPACE, "calibration": "$response.body#/calibrations/0/id"},
    ),
    ("get", "/v1/jobs", "200"): ("job", {"job": "$response.body#/jobs/0/id"}),
    ("post", "/v1/spaces/{space}/evaluate", "202"): ("job", {"job": "$response.body#/id"}),
}
"""(method, path, status) → what its answer tells, and where all that is known then stands."""


def link(paths: dict[str, Any]) -> None:
    """Let every answer that tells a name or an id link to the requests whose path takes it."""
    taking = [
        (set(re.findall(r"{(\w+)}", path)), operation)
        for path, methods in paths.items()
        for operation in methods.values()
    ]
    for (method, path, status), (told, known) in _FOUND.items():
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {name: known[name] for name in sorted(wanted)},
            }
            for wanted, operation in taking
            if told in wanted and wanted <= known.keys()
        }
        paths[path][method]["responses"][status]["links"] = links
