"""An evaluation as an HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trustvlm.catalog.rows import supports
from trustvlm.encoders.images.decode import decode_image
from trustvlm.errors import ReadOnly
from trustvlm.reading.image_files import DEFAULT_LIMITS, ImageLimits, UnreadableImage
from trustvlm.service.home.home import Home
from trustvlm.types.evaluation import Evaluation


def write_report(home: Home, evaluation: Evaluation, path: Path, page: str | None) -> None:
    """See :meth:`TrustService.write_report`."""

    def support_image(support_id: int) -> bytes | None:
        with home.catalog.read() as connection:
            return supports.thumbnail(connection, support_id)

    write_page(evaluation, path, support_image, page, home.limits)


def write_page(
    evaluation: Evaluation,
    path: Path,
    support_image: Callable[[int], bytes | None],
    page: str | None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> None:
    """Write the report on an evaluation; `support_image` gives the thumbnail of a support image,
    `page` is the address that names of labels link to."""
    from trustvlm.selective.report import render_html

    def query_image(source: str) -> bytes | None:
        """A small JPEG of an image file; None where the source is none that can be read."""
        try:
            return decode_image(source, limits).thumbnail if Path(source).is_file() else None
        except UnreadableImage:
            return None

    report = render_html(
        evaluation, support_image=support_image, query_image=query_image, page=page
    )
    try:
        path.write_text(report, encoding="utf-8")
    except OSError as error:
        raise ReadOnly(f"{path} cannot be written: {error.strerror or error}") from error
