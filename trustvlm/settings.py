"""Settings, and the only place that wires the parts of a service together.

Values come from, first match wins: arguments, TRUSTVLM_* environment variables, `trustvlm.toml` in
the home, defaults.
"""

from __future__ import annotations

import logging
import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from trustvlm.catalog import Catalog
from trustvlm.encoders import ImageLimits
from trustvlm.errors import InvalidInput, NotFound, ReadOnly
from trustvlm.service import TrustService
from trustvlm.service.home.home import EncoderPool, Home
from trustvlm.service.home.limits import CallLimits
from trustvlm.service.memory.background_fit import BackgroundFit
from trustvlm.service.memory.cache_registry import CacheRegistry
from trustvlm.system.durable import make_folder

__all__ = ["CATALOG_NAME", "Settings", "catalog_path", "open_service"]

log = logging.getLogger("trustvlm")

CATALOG_NAME = "catalog.sqlite3"
SNAPSHOT_FOLDER = "snapshots"
MAX_TOML_BYTES = 16 << 10
"""A settings file has a few hundred; parsing one long dotted key takes time that grows with its
square."""


Amount = Annotated[int, Field(ge=1, le=2**50)]
Bytes = Annotated[int, Field(ge=1024, le=2**50)]
Seconds = Annotated[float, Field(ge=0.1, le=3600)]


def _about(default: Any, *description: str, **limits: Any) -> Any:
    return Field(default, description=" ".join(description), **limits)


class Settings(BaseSettings):
    """What can be set from outside; each field is TRUSTVLM_<NAME> in the environment and a key of
    trustvlm.toml."""

    model_config = SettingsConfigDict(env_prefix="TRUSTVLM_", extra="forbid", frozen=True)

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
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @classmethod
    def of(cls, home: Path, **given: Any) -> Settings:
        """The settings of a home; values given as None count as not given.

        Raises:
            InvalidInput: a value that cannot be right, naming it and where it came from.
        """
        source = home / "trustvlm.toml"
        explicit = {key: value for key, value in given.items() if value is not None}
        try:
            # the environment, which pydantic reads, goes before the file
            environment = {f"TRUSTVLM_{key.upper()}": key for key in cls.model_fields}
            in_environment = {environment.get(name.upper()) for name in os.environ}
            from_file = {
                key: value for key, value in _read_toml(source).items() if key not in in_environment
            }
            return cls(**from_file | explicit)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])[:80]
            where, got = f"argument, TRUSTVLM_{name.upper()} or {source}", _brief(first["input"])
            raise InvalidInput(
                f"setting {name!r} ({where:.4000}): {first['msg']}, got {got}"
            ) from error


def _brief(value: Any) -> str:
    """A value for a message; of tables and lists only that they are such: printing a deep one would
    exceed the stack."""
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.80}"


def _read_toml(path: Path) -> dict[str, Any]:
    """The keys of a settings file; none where there is no file.

    Raises:
        InvalidInput: it is no file, too large, cannot be read, or is no TOML.
    """
    if not os.path.lexists(path):
        return {}
    if not path.is_file():  # a pipe or device would never end
        raise InvalidInput(
            f"{path}: expected a file of settings, this is a folder, a pipe, a device or a "
            f"broken link"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
        if len(data) > MAX_TOML_BYTES:
            raise InvalidInput(f"{path}: expected at most {MAX_TOML_BYTES} bytes of settings")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: expected settings, got values nested too deep") from error
    except InvalidInput:
        raise
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidInput(f"{path}: {error}") from error


def catalog_path(home: Path, database_url: str | None) -> Path:
    """The catalog's file: in the home, or where a sqlite:/// URL says.

    Raises:
        InvalidInput: not such a URL. Other databases are not supported yet.
    """
    if database_url is None:
        return home / CATALOG_NAME
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise InvalidInput(
            f"database_url: expected 'sqlite:////absolute/path', got {database_url!r}"
        ) from error
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise InvalidInput(
            f"database_url: only SQLite files are supported so far ('sqlite:////path'), got "
            f"{database_url!r}"
        )
    return Path(url.database)


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
) -> TrustService:
    """Open a home directory; this is :func:`trustvlm.open`.

    Args:
        home: the directory that holds the catalog and everything derived from it.
        create: make it, at the newest schema, when it is not there.
        read_only: never write to it; changing verbs raise ReadOnly.
        device: "cpu", "cuda" or "cuda:N", for models and indexes; without that GPU one line is
            logged and the CPU is used.
        database_url: "sqlite:////path" of a catalog that lies elsewhere.
        precision: "fp32", "bf16" or "fp16", for models.
        batch_size, workers: how images are loaded. max_image_pixels: largest image accepted, width
            × height.

    Raises:
        NotFound: there is no home (and not `create`). ReadOnly: it cannot be written (and not
            `read_only`).
        SchemaMismatch: its schema is older or newer than this program. InvalidInput: a setting that
            cannot be right.
    """
    folder = Path(home).expanduser().absolute()
    given = {"device": device, "precision": precision, "batch_size": batch_size, "workers": workers}
    settings = Settings.of(folder, **given, max_image_pixels=max_image_pixels)
    path = catalog_path(folder, database_url)
    if create and read_only:
        raise InvalidInput("open: create=True and read_only=True contradict each other")
    catalog = _open_catalog(folder, path, create=create, read_only=read_only)
    device, precision = _on_this_machine(settings.device, settings.precision)
    return TrustService(
        Home(
            folder=folder,
            catalog=catalog,
            caches=CacheRegistry(
                catalog, folder / SNAPSHOT_FOLDER, device, half_from=settings.half_from
            ),
            background_fit=BackgroundFit(catalog),
            encoders=EncoderPool(device, precision),
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
            undo_window=timedelta(hours=settings.undo_hours),
        )
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


def _open_catalog(home: Path, path: Path, *, create: bool, read_only: bool) -> Catalog:
    if path.is_file():
        if not read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            raise ReadOnly(
                f"{home} cannot be written; open it with read_only=True, or make it writable"
            )
        return Catalog.create(path) if create else Catalog(path, read_only=read_only)
    if not create:
        raise NotFound(
            f"no trustvlm home at {home}; 'trustvlm --home {home} space create NAME' makes one "
            f"(in Python: create=True)"
        )
    if home.exists() and not home.is_dir():
        raise InvalidInput(f"home: {home} is a file, expected a directory")
    try:
        make_folder(home)
        return Catalog.create(path)
    except OSError as error:
        raise ReadOnly(f"{home} cannot be made: {error.strerror}") from error
