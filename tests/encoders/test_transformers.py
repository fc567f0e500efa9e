"""Checkpoints in the format of transformers: what an encoder gives is what the library gives when
it is called itself, and no file of a checkpoint does more than it should."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make_clip, make_transformers_clip, make_transformers_dinov2
from checkpoints import make_transformers_siglip as make_siglip
from safetensors.torch import load_file, save_file

import trustvlm
from trustvlm.encoders import remembered
from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.open import open_encoder
from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, Unavailable

PROMPTS = [
    "a photo of a cat.", "x", "", "The  Quick brown FOX", "Ünïcode — 漢字 🦜", "word " * 200,
    "a photo of a very long-tailed paradise whydah sitting in an acacia tree at dusk",
]  # fmt: skip
SIZES = [(256, 192), (100, 301), (301, 64), (33, 43), (64, 64), (1, 1), (97, 3)]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    """Import what takes seconds when tests of this file run, not when tests are collected."""
    global AutoImageProcessor, AutoModel, AutoTokenizer
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Any:
    return open_encoder(make_transformers_clip(folder / "clip"))


@pytest.fixture(scope="module")
def siglip(folder: Path) -> Any:
    return open_encoder(make_siglip(folder / "siglip"))


@pytest.fixture(scope="module")
def dinov2(folder: Path) -> Any:
    return open_encoder(make_transformers_dinov2(folder / "dinov2"))


def copy(encoder: Any, place: Path) -> str:
    """A copy of an encoder's folder; its spec."""
    shutil.copytree(encoder.spec.removeprefix("transformers:"), place)
    return f"transformers:{place}"


def place(encoder: Any) -> str:
    path: str = encoder.spec.removeprefix("transformers:")
    return path


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# What is computed


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_preprocessing_is_the_checkpoints_own(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = request.getfixturevalue(kind)
    processor = AutoImageProcessor.from_pretrained(place(encoder), backend="pil")
    for size in SIZES:
        image = golden_image().resize(size)
        expected = processor(images=image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(encoder.preprocess.array(image), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_the_model_itself(
    kind: str, request: pytest.FixtureRequest
) -> None:
    encoder = request.getfixturevalue(kind)
    model = AutoModel.from_pretrained(place(encoder)).eval()
    tokens = AutoTokenizer.from_pretrained(place(encoder))(
        PROMPTS, padding="max_length", truncation=True, return_tensors="pt"
    )
    pixels = torch.stack([encoder.preprocess(golden_image().resize(size)) for size in SIZES])
    with torch.inference_mode():
        images = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
        texts = model.get_text_features(**tokens).pooler_output.numpy()
        logits = model(pixel_values=pixels, **tokens).logits_per_image.numpy()
    found, words = encoder.encode_images(pixels), encoder.encode_texts(PROMPTS)
    assert (found.dtype, words.dtype) == (np.float32, np.float32)
    assert encoder.dim == found.shape[1] == words.shape[1] == (24 if kind == "clip" else 32)
    np.testing.assert_allclose(found, images, atol=2e-6)
    np.testing.assert_allclose(words, texts, atol=2e-6)
    assert np.ptp(words, axis=0).max() > 0.01
    assert not np.allclose(np.linalg.norm(found, axis=1), 1)
    if kind == "clip":  # its softmax over labels
        assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
        own = encoder.logit_scale * unit(found) @ unit(words).T
        np.testing.assert_allclose(own, logits, atol=1e-3)
    else:
        assert encoder.logit_scale == 100.0


def test_prompts_of_clip_are_padded_to_the_longest_of_their_batch(clip: Any) -> None:
    seen: list[tuple[int, ...]] = []
    hook = clip.model.text_model.register_forward_pre_hook(
        lambda module, args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    found = clip.encode_texts(["word " * 200, *["a cat"] * 300])
    hook.remove()
    assert sorted(seen) == [(1, 77), (44, 4), (256, 4)]
    assert np.ptp(found[1:], axis=0).max() < 1e-5
    assert clip.encode_texts([]).shape == (0, 24)


def test_prompts_that_are_too_long_are_told(clip: Any, siglip: Any) -> None:
    # <start> c a t . <end>; every letter is a token
    assert clip.cut(["cat.", "x" * 75, "x" * 76, "", "word " * 200]) == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert siglip.cut(["a photo of a fox", "q" * 60]) == [False, True]


def test_image_encoders_pool_as_told(dinov2: Any, folder: Path) -> None:
    model = AutoModel.from_pretrained(place(dinov2)).eval()
    pixels = dinov2.preprocess(golden_image())[None]
    with torch.inference_mode():
        answer = model(pixel_values=pixels)
    hidden = answer.last_hidden_state
    for options, expected in (
        ("", answer.pooler_output),
        ("?pooling=class-token", hidden[:, 0]),
        ("?pooling=mean-tokens", hidden.mean(dim=1)),
    ):
        encoder = open_encoder(dinov2.spec + options)
        assert (encoder.dim, encoder.logit_scale) == (32, None)
        np.testing.assert_allclose(encoder.encode_images(pixels), expected.numpy(), atol=2e-6)
    with pytest.raises(InvalidInput, match="cannot encode texts"):
        dinov2.encode_texts(["a"])
    with pytest.raises(InvalidInput, match="pooling=default only"):
        open_encoder(f"transformers:{folder / 'clip'}?pooling=mean-tokens")


def test_convolutional_image_encoders(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    ResNetModel(config).save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"height": 32, "width": 32}, crop_pct=1.0).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "preprocessor_config.json").read_text())
    values["image_processor_type"] = "SiglipImageProcessor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    encoder = open_encoder(f"transformers:{tmp_path}")
    assert encoder.encode_images(encoder.preprocess(golden_image())[None]).shape == (1, 16)
    with pytest.raises(InvalidInput, match="feature map"):
        open_encoder(f"transformers:{tmp_path}?pooling=mean-tokens")


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_bf16_gives_close_float32_embeddings(kind: str, request: pytest.FixtureRequest) -> None:
    exact = request.getfixturevalue(kind)
    low: Any = open_encoder(exact.spec, precision="bf16")
    assert (low.identity, low.precision) == (exact.identity, "bf16")
    pairs = [[one.encode_images(one.preprocess(golden_image())[None]) for one in (exact, low)]]
    if kind != "dinov2":
        pairs.append([one.encode_texts(PROMPTS) for one in (exact, low)])
    for one, other in pairs:
        assert other.dtype == np.float32
        assert (unit(one) * unit(other)).sum(axis=1).min() > 0.99


# Identity


def test_the_identity_is_of_weights_preprocessing_and_tokenizer(clip: Any, tmp_path: Path) -> None:
    def changed(name: str, file: str, change: Any) -> str:
        spec = copy(clip, tmp_path / name)
        path = tmp_path / name / file
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return open_encoder(spec).identity

    identity: str = clip.identity
    assert open_encoder(copy(clip, tmp_path / "copy")).identity == identity
    assert open_encoder(make_transformers_clip(tmp_path / "other", seed=1)).identity != identity
    same = changed("same", "config.json", lambda one: one.update(transformers_version="4.0"))
    assert same == identity
    others = {
        changed("gelu", "config.json", lambda one: one["text_config"].update(hidden_act="gelu")),
        changed("mean", "preprocessor_config.json", lambda one: one.update(image_mean=[0.5] * 3)),
        changed("size", "preprocessor_config.json",
                lambda one: one.update(size={"shortest_edge": 32})),
        changed("short", "tokenizer_config.json", lambda one: one.update(model_max_length=20)),
        changed("words", "tokenizer.json", lambda one: one["model"].update(merges=[])),
    }  # fmt: skip
    assert len(others | {identity}) == 6


def test_the_form_of_the_weights_does_not_count(clip: Any, tmp_path: Path) -> None:
    expected = clip.encode_texts(PROMPTS)
    tensors = load_file(Path(place(clip)) / "model.safetensors")
    torch_form, shards = copy(clip, tmp_path / "torch"), copy(clip, tmp_path / "shards")
    (tmp_path / "torch" / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "torch" / "pytorch_model.bin")
    (tmp_path / "shards" / "model.safetensors").unlink()
    names, index = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / "shards" / file)
        index |= dict.fromkeys(part, file)
    path = tmp_path / "shards" / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    for spec in (torch_form, shards):
        encoder = open_encoder(spec)
        assert encoder.identity == clip.identity
        np.testing.assert_array_equal(encoder.encode_texts(PROMPTS), expected)
    path.write_text(json.dumps({"weight_map": dict.fromkeys(index, "../clip/model.safetensors")}))
    with pytest.raises(InvalidInput, match="names of files beside it"):
        open_encoder(shards)


def test_weights_are_hashed_once(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED_SECONDS", -60.0)
    file = tmp_path / "encoders.json"
    assert open_encoder(clip.spec, identities=file).identity == clip.identity
    monkeypatch.delattr(remembered, "encoder_parts")
    assert open_encoder(clip.spec, identities=file).identity == clip.identity


# Files that are not what they should be


@pytest.mark.parametrize(("file", "error"), [
    ("config.json", r"no config\.json"),
    ("preprocessor_config.json", r"no preprocessor_config\.json or processor_config\.json"),
    ("model.safetensors", r"no model\.safetensors or .*pytorch_model\.bin"),
    ("tokenizer.json", r"no tokenizer\.json or "),
    ("tokenizer_config.json", r"no tokenizer_config\.json"),
])  # fmt: skip
def test_incomplete_folders(clip: Any, tmp_path: Path, file: str, error: str) -> None:
    spec = copy(clip, tmp_path / "clip")
    (tmp_path / "clip" / file).unlink()
    with pytest.raises(NotFound, match=error):
        open_encoder(spec)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no folder .*config\.json, preprocessor_config\.json"):
        open_encoder(f"transformers:{tmp_path}/nothing")


@pytest.mark.parametrize(("file", "content", "error"), [
    ("config.json", "[]", "cannot be read as JSON"),
    ("config.json", "{", "cannot be read as JSON"),
    ("config.json", "{}", "of no model that transformers has"),
    ("config.json", '{"model_type": "other", "auto_map": {"AutoModel": "trap.Model", '
     '"AutoConfig": "trap.Config"}}', "code of a checkpoint is never run"),
    ("config.json", '{"model_type": "bert"}', "expected clip, siglip or an image encoder"),
    ("config.json", '{"model_type": "siglip2"}', "expected clip, siglip or an image encoder"),
    ("preprocessor_config.json", '{"image_processor_type": "Nothing"}', "image processor .* cannot be used"),
    ("preprocessor_config.json", '{"image_processor_type": "CLIPImageProcessor", '
     '"do_resize": false}', "does not resize and crop to one size"),
    ("preprocessor_config.json", '{"image_processor_type": "CLIPImageProcessor", '
     '"do_center_crop": false}', "does not resize and crop to one size"),
    ("preprocessor_config.json", '{"image_processor_type": "CLIPImageProcessor"}',
     "does not take 224-pixel images"),
    ("tokenizer.json", "{", "tokenizer .* cannot be used"),
])  # fmt: skip
def test_files_that_do_not_fit(
    clip: Any, tmp_path: Path, file: str, content: str, error: str
) -> None:
    spec = copy(clip, tmp_path / "clip")
    (tmp_path / "clip" / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    (tmp_path / "clip" / file).write_text(content)
    with pytest.raises(InvalidInput, match=error):
        open_encoder(spec)
    assert not (tmp_path / "sprung").exists()


def test_code_of_a_checkpoint_is_not_run(clip: Any, tmp_path: Path) -> None:
    spec, names = (
        copy(clip, tmp_path / "clip"),
        ("config", "tokenizer_config", "preprocessor_config"),
    )
    (tmp_path / "clip" / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    for name in names:
        path = tmp_path / "clip" / f"{name}.json"
        kinds = ("AutoConfig", "AutoModel", "AutoImageProcessor")
        code: dict[str, Any] = {kind: "trap.Thing" for kind in kinds}
        code["AutoTokenizer"] = ["trap.Thing", "trap.Thing"]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": code}))
    assert open_encoder(spec).identity == clip.identity
    assert not (tmp_path / "sprung").exists()


def test_weights_that_do_not_fit(clip: Any, tmp_path: Path) -> None:
    spec = copy(clip, tmp_path / "clip")
    path = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "visual_projection.weight"}, path)
    with pytest.raises(InvalidInput, match=r"1 tensors are missing .*visual_projection\.weight"):
        open_encoder(spec)
    save_file(tensors | {"visual_projection.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(InvalidInput, match=r"of another shape.*visual_projection\.weight"):
        open_encoder(spec)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(Damaged, match="damaged"):
        open_encoder(spec)
    path.unlink()
    pickled = tmp_path / "clip" / "pytorch_model.bin"
    pickled.write_bytes(pickle.dumps({"visual_projection.weight": Path("x")}, protocol=2))
    with pytest.raises(InvalidInput, match="more than tensors"):
        open_encoder(spec)


# Where weights come from

HUB = """
import os, socket, threading, time
hub, calls = socket.create_server(("127.0.0.1", 0)), []

def hang_up():
    while True:
        connection, _ = hub.accept()
        calls.append(connection)
        connection.close()

threading.Thread(target=hang_up, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.getsockname()[1]}"
from trustvlm.encoders.open import open_encoder
from trustvlm.errors import WeightsMissing
for download in (True, False):
    begun = time.perf_counter()
    try:
        open_encoder("openai/clip-vit-base-patch32", allow_download=download)
    except WeightsMissing as e:
        print(f"{time.perf_counter() - begun:.2f} {len(calls)}", e)
    calls.clear()
encoder = open_encoder("transformers:org/cached")
print(f"0 {len(calls)}", encoder.identity)
"""


@pytest.mark.slow
def test_the_hub_is_not_asked_for_what_is_here(clip: Any, tmp_path: Path) -> None:
    # The hub hangs up on whoever calls; the cache holds one repository.
    cached = tmp_path / "hub" / "models--org--cached"
    copy(clip, cached / "snapshots" / "1")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        capture_output=True, text=True, env=environment, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == ""  # no progress bar, no report
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert max(float(seconds) for seconds, *_ in lines) < 30  # soon, on a busy machine too
    assert int(lines[0][1]) > 0
    assert [int(calls) for _, calls, _ in lines[1:]] == [0, 0]
    assert lines[2][2] == clip.identity
    for *_, sentence in lines[:2]:
        assert sentence.startswith("transformers:openai/clip-vit-base-patch32 needs config.json")
        assert "https://huggingface.co/openai/clip-vit-base-patch32" in sentence
        assert "use transformers:/path/to/folder" in sentence
    assert "cannot be reached" in lines[0][2]
    assert "downloads are off" in lines[1][2]


def test_without_the_package_the_way_to_it_is_told(
    clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it was not installed
    with pytest.raises(Unavailable, match=r"pip install 'trustvlm\[transformers\]'$"):
        open_encoder(clip.spec)
    with pytest.raises(Unavailable, match="or use open_clip:ViT-B-32/openai, which has the same"):
        open_encoder("openai/clip-vit-base-patch32")


@pytest.mark.slow
def test_open_clip_is_loaded_without_transformers_until_a_model_needs_it(tmp_path: Path) -> None:
    from transformers import BertConfig

    towers = tmp_path / "bert"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertConfig(vocab_size=6, intermediate_size=64, **sizes).save_pretrained(towers)
    plain, spec = make_clip(tmp_path / "plain"), make_clip(tmp_path / "tower")
    path = tmp_path / "tower" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": str(towers), "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler",
    }  # fmt: skip
    path.write_text(json.dumps(config))
    code = f"""
import sys
from trustvlm.encoders.open import open_encoder
open_encoder({plain!r})
print("transformers" in sys.modules)
from trustvlm.errors import InvalidInput
try:
    open_encoder({spec!r})
except InvalidInput as e:
    print("does not fit its model" in str(e))  # so there is one
print("transformers" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["False", "True", "True"]


# Spaces


def test_a_space_of_transformers_from_registering_to_refusing(
    clip: Any, dinov2: Any, tmp_path: Path
) -> None:
    classifier, verifier = copy(clip, tmp_path / "clip"), copy(dinov2, tmp_path / "dinov2")
    images = [golden_image().rotate(angle) for angle in (0, 90, 180, 270)]
    with trustvlm.open(tmp_path / "home", create=True) as service:
        row = service.create_space("pets", classifier=classifier, verifier=verifier)
        assert (row.classifier, row.verifier) == (classifier, verifier)
        assert row.logit_scale == pytest.approx(clip.logit_scale)
        labels = [trustvlm.LabelInput("cat", images=images[:2]), trustvlm.LabelInput("fox")]
        service.register("pets", labels)
        before = service.score("pets", trustvlm.Queries(images=images))
        assert set(before.label) <= {"cat", "fox"}
        service.create_space("same", classifier=classifier)
        assert service.get_space("same").verifier_dim == 24
        with pytest.raises(InvalidInput, match="it needs a text side"):
            service.create_space("no", classifier=verifier)
    make_transformers_dinov2(tmp_path / "dinov2", seed=1)
    with trustvlm.open(tmp_path / "home") as service:
        with pytest.raises(Conflict, match=r"verifier .* its weights changed"):
            service.score("pets", trustvlm.Queries(images=images))
        assert service.repoint_space("pets", verifier=dinov2.spec).verifier == dinov2.spec
        after = service.score("pets", trustvlm.Queries(images=images))
    assert list(after.label) == list(before.label)
    np.testing.assert_allclose(after.trust, before.trust, atol=1e-6)
