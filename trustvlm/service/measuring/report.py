"""An evaluation as an HTML file."""

from __future__ import annotations

from pathlib import Path

from trustvlm.catalog.rows import supports
from trustvlm.encoders.images.decode import UnreadableImage, decode_image
from trustvlm.errors import ReadOnly
from trustvlm.service.home.home import Home
from trustvlm.types.evaluation import Evaluation

__all__ = ["write_report"]


def write_report(home: Home, evaluation: Evaluation, path: Path) -> None:
    """See :meth:`TrustService.write_report`."""
    from trustvlm.selective.report import render_html

    def support_image(support_id: int) -> bytes | None:
        with home.catalog.read() as connection:
            return supports.thumbnail(connection, support_id)

    def query_image(source: str) -> bytes | None:
        """A small JPEG of an image file; None where the source is none that can be read."""
        try:
            return decode_image(source, home.limits).thumbnail if Path(source).is_file() else None
        except UnreadableImage:
            return None

    page = render_html(evaluation, support_image=support_image, query_image=query_image)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReadOnly(f"{path} cannot be written: {error.strerror or error}") from error
