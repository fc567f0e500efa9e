"""Models are opened without work that their weights make superfluous, and are the same models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make_clip, make_timm

from trustvlm.encoders import remembered
from trustvlm.encoders.golden import golden_embedding
from trustvlm.encoders.libraries import Unfilled
from trustvlm.encoders.open import open_encoder


def test_no_random_numbers_are_drawn_and_the_rest_is_computed() -> None:
    from timm.layers import trunc_normal_

    state = torch.get_rng_state()
    with Unfilled():
        layer = torch.nn.MultiheadAttention(8, 2)
        trunc_normal_(layer.in_proj_weight)
        drawn = torch.get_rng_state()
        mask = torch.empty(4, 4).fill_(float("-inf")).triu_(1).mul_(2)
        noise = torch.empty(100).normal_()
    assert torch.equal(state, drawn)
    assert torch.isneginf(mask).sum() == 6
    assert noise.std() > 0.5  # no parameter
    assert torch.equal(layer.out_proj.bias, torch.zeros(8))
    assert torch.nn.Linear(8, 8).weight.std() > 0  # outside of the block as ever


@pytest.mark.parametrize("style", ["clip", "custom", "siglip", "embed-cls"])
def test_a_model_is_what_its_library_makes_of_the_weights(tmp_path: Path, style: str) -> None:
    import open_clip

    opened: Any = open_encoder(make_clip(tmp_path / "clip", style=style))
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'clip'}")
    expected = dict(model.named_buffers()) | dict(model.named_parameters())
    got = dict(opened.model.named_buffers()) | dict(opened.model.named_parameters())
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)


def test_a_timm_model_is_what_timm_makes_of_the_weights(tmp_path: Path) -> None:
    import timm

    opened: Any = open_encoder(make_timm(tmp_path / "vit.safetensors"))
    model = timm.create_model("test_vit", checkpoint_path=str(tmp_path / "vit.safetensors"))
    expected = {name: value for name, value in model.state_dict().items() if "head" not in name}
    got = opened.model.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)


@pytest.mark.slow
def test_torchs_compiler_is_loaded_when_it_is_used(tmp_path: Path) -> None:
    specs = make_clip(tmp_path / "clip"), make_timm(tmp_path / "vit.safetensors")
    code = f"""
import sys
from trustvlm.encoders.open import open_encoder
for spec in {specs!r}:
    open_encoder(spec)
print([name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))])
import torch, timm, torchvision
print(sys.modules["torchvision.ops.roi_align"].is_compile_supported("meta"))
print(timm.create_model("test_vit", pretrained=False).default_cfg["architecture"])
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
import torch._dynamo.utils
print(torch._dynamo.utils.__file__ is not None, torch._dynamo.is_compiling())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["[]", "False", "test_vit", "2.0", "True False"]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now count as finished."""
    monkeypatch.setattr(remembered, "_SETTLED_SECONDS", -60.0)


def opened(spec: str, file: Path) -> str:
    return open_encoder(spec, identities=file).identity


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kind", ["open_clip", "timm"])
def test_weights_are_hashed_once_as_long_as_the_file_stays(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "timm":
        weights = tmp_path / "vit.safetensors"
        spec = make_timm(weights)
    else:
        weights = tmp_path / "clip" / "open_clip_model.safetensors"
        spec = make_clip(weights.parent)
    file = tmp_path / "encoders.json"
    identity = opened(spec, file)
    assert identity == open_encoder(spec).identity
    hashed = remembered.encoder_parts
    with monkeypatch.context() as patch:
        patch.delattr(remembered, "encoder_parts")
        assert opened(spec, file) == identity
    assert remembered.encoder_parts is hashed
    # What is remembered is damaged: the weights count.
    file.write_text(file.read_text().replace(identity, "0" * 64))
    assert opened(spec, file) == identity
    # One changed number, with the size and the time of before: another file, another identity.
    status = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-4:] = np.float32(0.25).tobytes()
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(spec, file) == open_encoder(spec).identity != identity


@pytest.mark.usefixtures("settled")
def test_options_and_configs_have_identities_of_their_own(tmp_path: Path) -> None:
    file, timm = tmp_path / "encoders.json", make_timm(tmp_path / "vit.safetensors")
    specs = [timm, f"{timm}?pooling=class-token", f"{timm}?size=96", f"{timm}?preprocess=clip"]
    for spec in specs * 2:
        assert opened(spec, file) == open_encoder(spec).identity
    clip = make_clip(tmp_path / "clip")
    before = opened(clip, file)
    config = tmp_path / "clip" / "open_clip_config.json"
    content = json.loads(config.read_text())
    content["model_cfg"]["quick_gelu"] = True
    config.write_text(json.dumps(content))
    assert opened(clip, file) == open_encoder(clip).identity != before


def test_a_file_that_was_just_written_is_hashed_again(tmp_path: Path) -> None:
    file, spec = tmp_path / "encoders.json", make_timm(tmp_path / "vit.safetensors")
    opened(spec, file)
    assert not file.exists()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"KEY": 3}', '{"KEY": {"identity": "x"}}', "[" * 10**5]
)
def test_a_damaged_memory_is_written_again(tmp_path: Path, content: str) -> None:
    file, spec = tmp_path / "encoders.json", make_timm(tmp_path / "vit.safetensors")
    identity = opened(spec, file)
    (key,) = json.loads(file.read_text())
    file.write_text(content.replace("KEY", key))
    assert opened(spec, file) == identity
    assert json.loads(file.read_text())[key]["identity"] == identity


@pytest.mark.usefixtures("settled")
def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    spec = make_timm(tmp_path / "vit.safetensors")
    assert opened(spec, tmp_path / "missing" / "encoders.json") == open_encoder(spec).identity


def test_the_golden_image_is_encoded_when_an_encoder_is_opened(tmp_path: Path) -> None:
    encoder: Any = open_encoder(make_clip(tmp_path / "clip"))
    encoder.model = None  # nothing is left to run
    golden = golden_embedding(encoder)
    assert golden is not None
    assert golden.shape == (encoder.dim,)
    assert np.linalg.norm(golden) == pytest.approx(1)
