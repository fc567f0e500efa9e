"""Adds generated parts to the site: the HTTP reference, the plots of the benchmarks, and the
notebooks of docs/tutorials with what their cells print and show."""

from __future__ import annotations

import json
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TUTORIALS = ROOT / "docs" / "tutorials"
MOST_SECONDS = 600
"""Longest time of a cell, and of the start of its kernel: a machine may be busy."""
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>|<a )")
"""Sphinx roles in docstrings; what follows them is shown as code."""
_PAGE = re.compile(r"(?<![\w/\">])docs/([\w-]+)\.md\b")


def on_files(files: Any, config: Any) -> Any:
    """Add the plots of benchmarks/results, which pages name by their path in the repository, and
    the pages of notebooks."""
    for plot in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"pictures/{plot.name}", abs_src_path=str(plot)))
    notebooks = sorted(TUTORIALS.glob("*.ipynb"))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for made in threads.map(run_notebook, notebooks):
            for name, content in made.items():
                files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def run_notebook(path: Path) -> dict[str, str | bytes]:
    """Run a notebook, which is stored without outputs: its page in Markdown and its pictures, by
    file name.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    with tempfile.TemporaryDirectory() as folder:
        # Sockets of files: no port is opened.
        settings = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
        client = NotebookClient(
            notebook,
            config=settings,
            coalesce_streams=True,
            startup_timeout=MOST_SECONDS,
            timeout=MOST_SECONDS,
        )
        client.execute(cwd=str(path.parent))
    for cell in notebook.cells:  # stderr has remarks of libraries on this machine
        cell.outputs = [one for one in cell.get("outputs", ()) if one.get("name") != "stderr"]
    names = {"unique_key": path.stem, "output_files_dir": "."}
    text, resources = MarkdownExporter().from_notebook_node(notebook, names)
    return {f"{path.stem}.md": text, **resources["outputs"]}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page; link to pages made from files that are none."""
    markdown = markdown.replace("(../benchmarks/results/", "(pictures/").replace(".ipynb)", ".md)")
    return (
        markdown.replace("<!-- http reference -->", _http_reference())
        if "<!-- http reference -->" in markdown
        else markdown
    )


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Show the roles of docstrings as plain code, and link to the pages that docstrings name."""
    if page.file.src_uri.startswith("reference-"):
        html = _PAGE.sub(r'<a href="\1.html">docs/\1.md</a>', html)
    return _ROLE.sub("", html)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the service, over a home that is empty."""
    import trustvlm
    from trustvlm.http.app import create_app

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(trustvlm.open(Path(folder) / "home", create=True))
        document: dict[str, Any] = app.openapi()
        app.state.serving.close()
    return document


def _http_reference() -> str:
    document = openapi()
    groups: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups.setdefault(operation["tags"][0], []).extend(_operation(method, path, operation))
    lines = [
        line
        for tag, operations in groups.items()
        for line in (f"## {tag.capitalize()}", "", *operations)
    ]
    lines += ["## Bodies and answers", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name}", "", schema.get("description", ""), "", *_fields(schema)]
    return "\n".join(lines)


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [
        f"### `{method.upper()} {path}`",
        "",
        operation.get("description", operation["summary"]),
        "",
    ]
    parameters = [p for p in operation.get("parameters", ()) if p["in"] != "path"]
    rows = [
        (f"`{p['name']}`", p["in"], _kind(p["schema"]), p.get("description", ""))
        for p in parameters
    ]
    lines += _table(("parameter", "in", "type", "meaning"), rows)
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        example = (
            f", for example `{json.dumps(body['example'], ensure_ascii=False)}`"
            if "example" in body
            else ""
        )
        lines += [f"* Body `{media}`: {_kind(body['schema']) or 'any'}{example}"]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            kinds = [_kind(media.get("schema", {})) for media in answer.get("content", {}).values()]
            lines += [f"* Answer {status}: {', '.join(filter(None, kinds)) or 'no body'}"]
    return [*lines, ""]


def _fields(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", "yes" if name in required else "", _kind(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "required", "type", "meaning"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    cells = [tuple(cell.replace("|", r"\|").replace("\n", " ") for cell in row) for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *cells)] + [""]


def _kind(schema: dict[str, Any]) -> str:
    """A few words for a schema, with a link where it is described on its own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return " or ".join(dict.fromkeys(_kind(choice) for choice in schema[choices]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {})) or 'values'}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
