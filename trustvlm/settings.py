"""Settings, and the only place that wires the parts of a service together.

Values come from, first match wins: arguments, TRUSTVLM_* environment variables, `trustvlm.toml` in
the home, defaults.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store.location import FileLocation, Location, parse
from trustvlm.errors import InvalidInput, NotFound, ReadOnly
from trustvlm.index.shared.snapshot_store import SnapshotStore
from trustvlm.reading.image_files import ImageLimits
from trustvlm.service import TrustService
from trustvlm.service.home.home import CallLimits, EncoderPool, Home, ReviewLimits
from trustvlm.service.home.originals_place import OriginalsPlace
from trustvlm.service.home.place import place_of
from trustvlm.service.home.verdict_log.writer import VerdictWriter
from trustvlm.service.memory.background_fit import BackgroundFit
from trustvlm.service.memory.cache_registry import CacheRegistry
from trustvlm.system.author import check_author
from trustvlm.system.files.default_home import expanded
from trustvlm.system.files.durable import make_folder
from trustvlm.system.files.toml_file import read_toml
from trustvlm.system.masking import masked
from trustvlm.system.variables import PREFIX, warn_unknown
from trustvlm.types.bounds import flags, path_of
from trustvlm.types.messages.commands import at, word
from trustvlm.types.thresholds import Thresholds

__all__ = ["CATALOG_NAME", "Settings", "open_service"]

log = logging.getLogger("trustvlm")

CATALOG_NAME = "catalog.sqlite3"
SNAPSHOT_FOLDER = "snapshots"
IDENTITIES = "encoders.json"

Amount = Annotated[int, Field(ge=1, le=2**50)]
Bytes = Annotated[int, Field(ge=1024, le=2**50)]
Seconds = Annotated[float, Field(ge=0.1, le=3600)]


def _about(default: Any, *description: str, **limits: Any) -> Any:
    return Field(default, description=" ".join(description), **limits)


class Settings(BaseModel):
    """What can be set from outside; each field is TRUSTVLM_<NAME> in the environment and a key of
    trustvlm.toml."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # the errors that ours are raised from are logged, too
    )

    database_url: SecretStr | None = _about(
        None,
        "Where the catalog is, if not in the home: postgresql://user@host/database, or",
        "sqlite:////absolute/path.",
    )
    database_schema: str = _about(
        "trustvlm",
        "Schema of the PostgreSQL database that holds the catalog, and nothing else.",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
    )
    database_pool: int = _about(
        16, "Connections to PostgreSQL that a process opens, at most.", ge=1, le=1024
    )
    database_unsafe: bool = _about(
        False,
        "Open a PostgreSQL server that runs with fsync=off or full_page_writes=off, and loses what",
        "was acknowledged when its machine stops: for tests.",
    )
    snapshot_store: str | None = _about(
        None,
        "Where machines that share a catalog also share snapshots: an absolute path, or a URL such",
        "as s3://bucket/folder.",
    )
    originals_folder: Path | None = _about(
        None,
        "Folder for the image files of keep_originals, which all machines on a catalog share; an",
        "absolute path. Unset: in the home, and none for a catalog in PostgreSQL.",
    )
    device: str = _about(
        "cpu",
        "Where models and indexes run: cpu, cuda or cuda:N.",
        pattern=r"^(cpu|cuda(:[0-9]+)?)$",
    )
    precision: Literal["fp32", "bf16", "fp16"] = _about("fp32", "Arithmetic of the models.")
    batch_size: int = _about(32, "Images per batch.", ge=1, le=4096)
    workers: int | None = _about(
        None, "Processes that load images; unset: by their number.", ge=0, le=256
    )
    max_image_bytes: Amount = _about(64 * 2**20, "Largest image file accepted.")
    max_image_pixels: Amount = _about(100_000_000, "Largest image accepted, width × height.")
    half_from: Amount = _about(
        50_000, "Labels from which on a space is searched through 16-bit rows of a mapped snapshot."
    )
    max_image_memory: Amount = _about(
        850_000_000, "Most that decoding an image may take, in bytes, estimated from its header."
    )
    max_labels: Amount = _about(5_000_000, "Labels in one call.")
    max_supports: Amount = _about(20_000_000, "Support images that come as vectors in one call.")
    max_images: Amount = _about(1_000_000, "Images in one call.")
    max_queries: Amount = _about(
        1_000_000, "Vectors or texts in one call that are scored or searched."
    )
    undo_hours: float = _about(
        24.0, "How long removed labels and support images can be restored.", ge=0, le=1_000_000
    )
    observation_thumbnails: bool = _about(
        True,
        "Store a small picture of each image that calibrates, comes as feedback or waits for",
        "review, until the image is deleted. Pictures of support images are always stored.",
    )
    review_items: int = _about(
        10_000,
        "Images of a space that may wait for review; the oldest that were not accepted make room.",
        ge=1,
        le=1_000_000,
    )
    review_share: float = _about(
        0.02, "Share of the scored images that is drawn at random for review.", ge=0, le=1
    )
    thresholds: Thresholds = _about(
        Thresholds(),
        "Sizes at which the work on a space changes its way; a table of trustvlm.toml, or",
        "JSON in the environment.",
    )
    serve_encoders: tuple[str, ...] = _about(
        (),
        "Encoder specs that clients of 'trustvlm serve' may make spaces with, besides",
        "precomputed ones.",
    )
    serve_body_bytes: Bytes = _about(
        32 * 2**20, "Largest request body that 'trustvlm serve' reads."
    )
    serve_image_pixels: Amount = _about(
        24_000_000, "Largest image that 'trustvlm serve' takes, width × height."
    )
    serve_rate: float = _about(
        100.0, "Requests a second that each key of 'trustvlm serve' may make.", ge=1e-3, le=1e6
    )
    serve_hosts: int = _about(
        1,
        "Machines that run 'trustvlm serve' over this catalog, behind a balancer: each allows its",
        "share of a key's rate.",
        ge=1,
        le=1024,
    )
    serve_queue: int = _about(
        256, "Requests of one kind that may wait in 'trustvlm serve'.", ge=1, le=65536
    )
    serve_body_s: Seconds = _about(
        30.0,
        "Seconds that 'trustvlm serve' waits for headers, for a body that does not move, and",
        "for a client that does not read.",
    )
    serve_body_rate: float = _about(
        500.0,
        "Bytes a second at which 'trustvlm serve' must receive a body, and a client its answer.",
        ge=0,
        le=1e9,
    )
    serve_keep_alive_s: Seconds = _about(
        5.0, "Seconds that a connection to 'trustvlm serve' without a request stays open."
    )
    serve_root_path: str = _about(
        "", "Path under which a proxy shows 'trustvlm serve', such as /trust.", max_length=500
    )
    serve_otlp: str = _about(
        "", "Address of an OpenTelemetry collector that gets spans (extra 'otel'), such as",
        "http://127.0.0.1:4318/v1/traces.",
    )  # fmt: skip
    serve_log_level: Literal["debug", "info", "warning", "error"] = _about(
        "info", "Level from which on 'trustvlm serve' writes log lines."
    )
    serve_forwarded_ips: tuple[str, ...] = _about(
        ("127.0.0.1", "::1"),
        "Addresses of proxies from which 'trustvlm serve' takes X-Forwarded-For as the client's",
        "address.",
    )
    serve_job_s: float = _about(
        21_600.0, "Seconds that a job of 'trustvlm serve' may take.", ge=1, le=1e6
    )
    serve_deadline_s: float = _about(
        30.0, "Seconds that a request to 'trustvlm serve' may wait.", ge=1e-3, le=600
    )

    @classmethod
    def of(cls, home: Path, **given: Any) -> Settings:
        """The settings of a home; values given as None count as not given.

        Raises:
            InvalidInput: a value that cannot be right, naming it and where it came from.
        """
        source = home / "trustvlm.toml"
        explicit = {key: value for key, value in given.items() if value is not None}
        from_outside = read_toml(source) | dict(cls._of_environment())
        try:
            return cls(**from_outside | explicit)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])[:80]
            variable, got = str(first["loc"][0])[:80].upper(), _brief(first["input"])
            where = f"argument, TRUSTVLM_{variable} or {source}"
            raise InvalidInput(
                f"setting {name!r} ({where:.4000}): {first['msg']}, got {got}"
            ) from error

    @classmethod
    def _of_environment(cls) -> Iterator[tuple[str, Any]]:
        """The settings that the environment has, in upper or lower case. Raises InvalidInput."""
        for name, value in os.environ.items():
            key = name.lower().removeprefix(PREFIX)
            if key == name.lower():
                continue
            if (field := cls.model_fields.get(key)) is None:
                warn_unknown(name, tuple(cls.model_fields))
                continue
            is_text = not isinstance(field.default, tuple | Thresholds)
            try:
                yield key, value if is_text else json.loads(value)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"{name}: expected JSON: {error}") from error

    def location(self, home: Path) -> Location:
        """Where the catalog of a home is. Raises InvalidInput."""
        if self.database_url is None:
            return FileLocation(home / CATALOG_NAME)
        return parse(
            self.database_url.get_secret_value(),
            schema=self.database_schema,
            pool=self.database_pool,
            unsafe=self.database_unsafe,
        )


def _brief(value: Any) -> str:
    """A value for a message, without a password; of tables and lists only that they are such:
    printing a deep one would exceed the stack."""
    if isinstance(value, str):
        value = masked(value)
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.80}"


def open_service(
    home: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    device: str | None = None,
    database_url: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    max_image_pixels: int | None = None,
    author: str | None = None,
) -> TrustService:
    """Open a home directory; this is :func:`trustvlm.open`.

    Args:
        home: the directory that holds the catalog and everything derived from it.
        create: make it, at the newest schema, when it is not there.
        read_only: never write to it; changing verbs raise ReadOnly.
        device: "cpu", "cuda" or "cuda:N", for models and indexes; without that GPU one line is
            logged and the CPU is used.
        database_url: where the catalog is, if not in the home: "postgresql://user@host/database" or
            "sqlite:////path". The home then holds only what is derived, and is made when missing.
        precision: "fp32", "bf16" or "fp16", for models.
        batch_size, workers: how images are loaded. max_image_pixels: largest image accepted, width
            × height.
        author: who makes the changes, for :meth:`TrustService.history`: a name of up to 200
            characters.

    Raises:
        NotFound: there is no home (and not `create`). ReadOnly: it cannot be written (and not
            `read_only`).
        SchemaMismatch: its schema is older or newer than this program. InvalidInput: a setting that
            cannot be right.
    """
    flags(create=create, read_only=read_only)
    folder = expanded(path_of("home", home))
    given = {"device": device, "precision": precision, "batch_size": batch_size, "workers": workers}
    others = {"database_url": database_url, "max_image_pixels": max_image_pixels}
    settings = Settings.of(folder, **given, **others)
    location = settings.location(folder)
    check_author(author)
    if create and read_only:
        raise InvalidInput("open: create=True and read_only=True contradict each other")
    store = SnapshotStore(settings.snapshot_store) if settings.snapshot_store else None
    place = place_of(folder, None if database_url is None else location)
    with at(place):
        catalog = _open_catalog(folder, location, create=create, read_only=read_only)
    catalog.author = author
    device, precision = _on_this_machine(settings.device, settings.precision)
    return TrustService(
        Home(
            folder=folder,
            catalog=catalog,
            caches=CacheRegistry(
                catalog,
                folder / SNAPSHOT_FOLDER,
                device,
                half_from=settings.half_from,
                thresholds=settings.thresholds,
                store=store,
            ),
            background_fit=BackgroundFit(catalog, settings.thresholds),
            encoders=EncoderPool(device, precision, None if read_only else folder / IDENTITIES),
            batch_size=settings.batch_size,
            workers=settings.workers,
            limits=ImageLimits(
                max_bytes=settings.max_image_bytes,
                max_pixels=settings.max_image_pixels,
                max_memory=settings.max_image_memory,
            ),
            calls=CallLimits(
                labels=settings.max_labels,
                supports=settings.max_supports,
                images=settings.max_images,
                queries=settings.max_queries,
            ),
            review=ReviewLimits(items=settings.review_items, share=settings.review_share),
            undo_window=timedelta(hours=settings.undo_hours),
            thresholds=settings.thresholds,
            observation_thumbnails=settings.observation_thumbnails,
            originals=OriginalsPlace(folder, settings.originals_folder),
            verdict_writer=VerdictWriter(catalog),
        ),
        place,
    )


def _on_this_machine(device: str, precision: str) -> tuple[str, str]:
    """The requested device and precision or, without such a GPU, those of the CPU, with a log
    line."""
    if device == "cpu":
        return device, precision
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) < count:
        return device, precision
    log.warning(
        "device %r: this machine has %d usable GPUs: models and indexes run on the CPU",
        device,
        count,
    )
    return "cpu", "fp32" if precision == "fp16" else precision


def _open_catalog(home: Path, location: Location, *, create: bool, read_only: bool) -> Catalog:
    if isinstance(location, FileLocation):
        _require_file(home, location.path, create=create, read_only=read_only)
    if home.exists() and not home.is_dir():
        raise InvalidInput(f"home: {home} is a file, expected a directory")
    try:
        if not read_only:
            make_folder(home)
        return Catalog.create(location) if create else Catalog(location, read_only=read_only)
    except OSError as error:
        raise ReadOnly(f"{home} cannot be made: {error.strerror}") from error


def _require_file(home: Path, path: Path, *, create: bool, read_only: bool) -> None:
    """Raises NotFound, ReadOnly where the catalog's file is not as the home is to be opened."""
    if not path.is_file():
        if not create:
            raise NotFound(
                f"no trustvlm home at {home}; 'trustvlm --home {word(str(home))} space create "
                f"NAME' makes one (in Python: create=True)"
            )
    elif not read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise ReadOnly(
            f"{home} cannot be written; open it with read_only=True, or make it writable"
        )
