"""Where weights come from, and that they are only tensors.

A file is looked for in the local Hugging Face cache first. Only then is the network tried, and only
after one short question shows that it is there: the hub's own client would repeat its question for
half a minute per file.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from trustvlm.errors import Damaged, InvalidInput, NotFound, WeightsMissing

_PROBE_SECONDS = 5.0


def hub_file(
    repo: str, names: Sequence[str], *, spec: str, allow_download: bool, remedy: str
) -> Path:
    """Local path of the first of `names` that the hub repository `repo` has, downloaded if need be.

    Args:
        repo: "org/name".
        names: alternatives, best first.
        spec: who needs it, for the error message.
        allow_download: False looks in the local cache only.
        remedy: how to do without the hub; ends the error message.

    Raises:
        WeightsMissing: none is in the cache and the hub cannot be reached or must not be.
        NotFound: the hub has no such repository (or it is private), or none of the files in it.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    for name in names:
        if isinstance(cached := try_to_load_from_cache(repo, name), str):
            return Path(cached)
    wanted = f"{' or '.join(names)} of https://huggingface.co/{repo}"
    if not allow_download or constants.HF_HUB_OFFLINE:
        raise WeightsMissing(
            f"{spec} needs {wanted}, which is not in the local cache, and downloads are off; "
            f"{remedy}"
        )
    if not hub_answers():
        where = f"is not in the local cache, and {constants.ENDPOINT} cannot be reached"
        raise WeightsMissing(f"{spec} needs {wanted}, which {where}; {remedy}")
    return _download(repo, names, f"{wanted}, needed by {spec}", remedy)


def _download(repo: str, names: Sequence[str], wanted: str, remedy: str) -> Path:
    from huggingface_hub import errors, hf_hub_download

    for name in names:
        try:
            return Path(hf_hub_download(repo, name, etag_timeout=_PROBE_SECONDS))
        except errors.LocalEntryNotFoundError as e:  # an EntryNotFoundError of the network
            raise WeightsMissing(f"could not download {wanted}: {e}; {remedy}") from e
        except errors.EntryNotFoundError:
            continue
        except errors.RepositoryNotFoundError as e:
            raise NotFound(
                f"https://huggingface.co/{repo} does not exist, or is private; {remedy}"
            ) from e
        except (errors.HfHubHTTPError, OSError) as e:
            raise WeightsMissing(f"could not download {wanted}: {e}; {remedy}") from e
    raise NotFound(f"https://huggingface.co/{repo} has no {' or '.join(names)}; {remedy}")


def hub_answers() -> bool:
    """Whether the hub answers anything at all within :data:`_PROBE_SECONDS`, name resolution
    included."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    reached = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                reached.set()
        except urllib.error.HTTPError as e:
            e.close()
            reached.set()  # a refusal is an answer
        except (OSError, ValueError):
            return

    # A thread, because a dead name server blocks far longer than the socket timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return reached.is_set()


def check_weights(path: Path) -> None:
    """Make sure that `path` is a whole file of tensors, and that loading it cannot run code.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is neither safetensors nor a torch file, or it holds other objects than
            tensors.
        Damaged: it is one, but truncated or corrupted.
    """
    if not path.is_file():
        raise NotFound(f"no weights file {path}")
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif path.suffix in (".bin", ".pt", ".pth"):
        _check_torch(path)
    else:
        raise InvalidInput(
            f"weights file {path}: expected .safetensors (or .bin, .pt, .pth), not "
            f"{path.suffix or path.name!r}"
        )


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        # Checks the header against the file's length.
        with safe_open(str(path), framework="np") as file:
            file.keys()
    except (SafetensorError, OSError) as e:
        raise Damaged(f"weights file {path} is damaged or not safetensors: {e}") from e


def _check_torch(path: Path) -> None:
    import pickle
    import zipfile

    import torch

    try:
        # The libraries fall back to unsafe loading on some errors of the safe one; a file that
        # passes here never gets that far. Memory mapping keeps this first look cheap.
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as e:
        raise InvalidInput(
            f"weights file {path} holds more than tensors, or is no torch file; convert it to "
            f".safetensors"
        ) from e
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as e:
        raise Damaged(
            f"weights file {path} is damaged: "
            f"{str(e).splitlines()[0] if str(e) else type(e).__name__}"
        ) from e
