"""README and docs/ are true: their commands run as printed, in order, and print what stands there
(numbers aside); the files that they name exist."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from forked import run_code
from served_client import application, listening
from server_process import ready, server
from shell import Shell
from test_http_routes import picture

import trustvlm
from trustvlm import errors
from trustvlm.http.routes.docstrings import divided

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "http://127.0.0.1:8000"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# In the order in which a reader would follow them: later pages use homes of the tutorial.
FOLLOWED = ("docs/tutorial.md", "docs/labels.md", "docs/encoders.md", "README.md")
WITH_PYTHON = ("README.md", "docs/attributes.md", "docs/claims.md", "docs/notebook.md")
MOST_WORDS = 900
MOST_BYTES = 60_000
"""Of a picture of the page, which `make pictures` takes."""
SECTION = re.compile(r"^(Args|Raises):\n((?: {4}.*\n)*)", re.MULTILINE)
ITEM = re.compile(r"^ {4}(\w+): ", re.MULTILINE)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def blocks(language: str, page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def transcript(page: str) -> Iterator[tuple[str, str]]:
    """(command, printed output) of every console block of a page, in order."""
    for block in blocks("console", page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output.strip()


def words(text: str) -> list[str]:
    """What a text says without its numbers and its layout: machines differ in digits and speed."""
    return re.sub(r"[-−]?\d+(\.\d+)?", "#", text).split()


def says(printed: str, expected: str) -> bool:
    """Whether a text was printed; a line of "…" stands for any lines."""
    pieces = [re.escape(" ".join(words(piece))) for piece in re.split(r"^…$", expected, flags=re.M)]
    return re.fullmatch(".*".join(pieces), " ".join(words(printed))) is not None


@dataclass(frozen=True)
class Reader:
    """A shell in a folder without a network, and the pages that were followed there: what each of
    their commands printed."""

    shell: Shell
    printed: dict[str, list[str]] = field(default_factory=dict)

    def follow(self, page: str) -> list[str]:
        """What the commands of a page print, which are run once."""
        if page not in self.printed:
            self.printed[page] = [self.shell.run(command) for command, _ in transcript(page)]
        return self.printed[page]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader who has followed the tutorial."""
    folder = tmp_path_factory.mktemp("reader")
    models = str(ROOT / "trustvlm" / "demo" / "models")
    reader = Reader(Shell(folder, MODELS=models, HF_HOME=str(folder / "hub"), COLUMNS="160"))
    reader.follow("docs/tutorial.md")
    return reader


@pytest.mark.slow  # CI runs it, too; by default: tests/project/test_demo.py
@pytest.mark.parametrize("page", FOLLOWED)
def test_console_blocks_print_what_they_say(reader: Reader, page: str) -> None:
    assert reader.follow(page)
    for (command, expected), output in zip(transcript(page), reader.follow(page), strict=True):
        printed = output.replace(str(ROOT), "/path/to")
        assert says(printed, expected), f"$ {command}\n{printed}"


@pytest.mark.slow  # CI runs it, too; by default: the next test
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_blocks_print_what_they_say(reader: Reader, page: str) -> None:
    """README's on the home that its console blocks made."""
    reader.follow("README.md")
    for code, expected in zip(blocks("python", page), blocks("text", page), strict=True):
        assert words(reader.shell.python(code)) == words(expected)


@pytest.mark.parametrize("page", ["docs/arrays.md", "docs/client.md", "docs/store.md"])
def test_python_blocks_of_embeddings_print_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """They begin with an empty folder, and need no models."""
    monkeypatch.chdir(tmp_path)
    for code, expected in zip(blocks("python", page), blocks("text", page), strict=True):
        with serving(code, tmp_path / "served") as served:
            done = run_code(served)
            assert words(done.stdout) == words(expected), done.stderr


@contextmanager
def serving(code: str, home: Path) -> Iterator[str]:
    """The code, with a service that listens where it expects one."""
    if SERVICE not in code:
        yield code
        return
    with application(home) as app, listening(app) as port:
        yield code.replace(SERVICE, f"http://127.0.0.1:{port}")


@pytest.mark.slow  # CI runs it, too
def test_the_lines_of_the_service_are_answered(reader: Reader) -> None:
    """On the home that the demo made."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    first, *lines = (
        shlex.split(line, comments=True) for line in blocks("sh", "docs/service.md")[0].splitlines()
    )
    assert first == ["trustvlm", "--home", "demo-home", "serve"]
    assert len(lines) == 4
    folder = reader.shell.folder
    (folder / "photo.png").write_bytes(picture(1))
    with server(folder / "demo-home") as (_, address):
        ready(address)
        for line in lines:
            command = [word.replace("localhost:8000", address) for word in line]
            done = subprocess.run(
                [*command, "--silent", "--fail-with-body"],
                cwd=folder,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, (line, done.stdout)
            assert {"revision", "labels"} & set(json.loads(done.stdout))
        kite = httpx.get(f"{address}/v1/spaces/digits/labels/kite", timeout=60).json()
        assert kite["support_count"] == 1


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_pictures_are_small_shown_and_described() -> None:
    shown = {
        Path(file).name: words
        for page in PAGES
        for words, file in PICTURE.findall(page.read_text(encoding="utf-8"))
    }
    for file in sorted((ROOT / "docs" / "pictures").glob("page-*.png")):
        assert file.stat().st_size <= MOST_BYTES, file.name
        assert len(shown[file.name]) > 20, f"{file.name} needs a description"


FILE = re.compile(r"\b(?:trustvlm|tests|benchmarks|indexes|migrations|docs)/[\w/.*-]*\w/?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(FILE.findall(page.read_text(encoding="utf-8")))
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/")))]


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/tutorials/*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_stored_without_outputs_and_are_on_the_site(path: Path) -> None:
    """`make docs` runs them, and fails where a cell does."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]
    assert f"tutorials/{path.stem}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_python_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference-python.md").read_text(encoding="utf-8")
    described = {*re.findall(r"^::: trustvlm\.(\w+)$", page, re.MULTILINE), *errors.__all__}
    assert set(trustvlm.__all__) - described == {"DEFAULT_RULE", "RULES", "__version__"}


@pytest.mark.parametrize("kind", [trustvlm.TrustService, trustvlm.Client])
def test_the_python_reference_has_an_item_for_each_argument_and_error(kind: type) -> None:
    """As docstrings are divided: no name is of nothing, and no word is lost."""
    for verb in (one for name, one in vars(kind).items() if name[0] != "_"):
        docstring = inspect.getdoc(verb) or ""
        items = dict.fromkeys(("Args", "Raises"), "") | dict(SECTION.findall(divided(docstring)))
        assert set(ITEM.findall(items["Args"])) <= set(inspect.signature(verb).parameters)
        assert all(hasattr(errors, name) for name in ITEM.findall(items["Raises"]))
        missing = set(docstring.split()) - set(divided(docstring).split())
        assert all(word.endswith((",", ":")) for word in missing), (verb, missing)


def test_pages_that_the_code_names_exist() -> None:
    for folder in ("trustvlm", "tests", "benchmarks", "migrations"):
        for path in (ROOT / folder).rglob("*.py"):
            for page in re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{path.relative_to(ROOT)} names {page}"
