"""Loads the model libraries and builds their models without what is not needed: torch's compiler,
which is half of what they import, transformers for open_clip's own models, and random numbers,
which the weights of a file replace."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, reload
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_COMPILER = "torch._dynamo"
_UTILS = f"{_COMPILER}.utils"
_LOCK = threading.Lock()

_DRAWS = {"uniform_", "normal_", "kaiming_uniform_"}
"""Of torch.Tensor and torch.nn.init."""
_CHANGES = {"erfinv_", "mul_", "add_", "clamp_"}
"""What timm's trunc_normal_ does to the numbers that it has drawn."""


def load_library(name: str) -> Any:
    """Import timm, open_clip or transformers. Raises ImportError."""
    hidden = _Hidden("transformers") if name == "open_clip" else None
    with _LOCK, _compiler_on_demand():
        if hidden is None:
            return import_module(name)
        sys.meta_path.insert(0, hidden)
        try:
            return import_module(name)
        finally:
            sys.meta_path.remove(hidden)


def load_text_towers() -> None:
    """Let open_clip build text towers of transformers, without which it was imported. Raises
    ImportError."""
    from open_clip import hf_model, model

    load_library("transformers")
    if hf_model.transformers is None:
        model.HFTextEncoder = reload(hf_model).HFTextEncoder


class _Hidden(MetaPathFinder):
    """A package that the thread which makes this does not find; what is imported already stays."""

    def __init__(self, name: str) -> None:
        self._name, self._thread = name, threading.get_ident()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """None: others may find it. Raises ModuleNotFoundError."""
        if fullname == self._name and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is not needed here", name=fullname)


@contextmanager
def _compiler_on_demand() -> Iterator[None]:
    """Within the block, two modules stand for torch's compiler; whatever is used of it, later too,
    imports and runs the real one.

    torchvision imports a function of it that it calls only for operators of detection models, timm
    a decorator of methods that must not be compiled. A release of these libraries that needs
    anything else gets the real compiler: only the time is lost.
    """
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utils = _StandIn(_COMPILER), _StandIn(_UTILS)
    vars(compiler)["disable"] = _disable
    vars(utils)["is_compile_supported"] = _is_compile_supported
    sys.modules |= {_COMPILER: compiler, _UTILS: utils}
    try:
        yield
    finally:
        _withdraw()


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and (self.__name__, name) != (_COMPILER, "__path__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _withdraw() -> None:
    for name in (_COMPILER, _UTILS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _real(name: str) -> ModuleType:
    _withdraw()
    return import_module(name)


def _is_compile_supported(device: Any) -> Any:
    return _real(_UTILS).is_compile_supported(device)


def _disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Any:
    """A decorated function that the compiler leaves alone, as it does where it decorates itself."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        return _real(_COMPILER).disable(function, recursive, **options)(*args, **given)

    vars(call)["_torchdynamo_disable"] = True
    return call


class Unfilled(TorchFunctionMode):
    """While a model is built in this block, by this thread, its parameters are not filled with
    random numbers.

    The weights of all of them must be loaded afterwards, strictly. What is computed otherwise
    (masks, tables of positions) is computed as ever: only a tensor that would hold random numbers
    is left as it is.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _DRAWS or name in _CHANGES:
            tensor = args[0] if args else options.get("tensor")
            if isinstance(tensor, torch.nn.Parameter):
                if name in _DRAWS:
                    vars(tensor)["unfilled"] = True
                if "unfilled" in vars(tensor):
                    return tensor
        return func(*args, **options)
