"""What models are called elsewhere: names that are understood, names that are answered with the
spec, and that each of these specs exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trustvlm.encoders.open import open_encoder
from trustvlm.encoders.specs.names import NAMES, TWINS, suggestions, understood
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.encoders.specs.presets import PRESETS
from trustvlm.errors import InvalidInput

KINDS = {"open_clip", "timm", "transformers", "precomputed", "external", "same"}


@pytest.mark.parametrize(("name", "spec"), [
    ("ViT-B/32", "open_clip:ViT-B-32/openai"),
    ("vit-l/14@336PX", "open_clip:ViT-L-14-336/openai"),
    ("open_clip:ViT-B/32", "open_clip:ViT-B-32/openai"),
    ("ViT-B-32/openai", "open_clip:ViT-B-32/openai"),
    ("ViT-B-32:openai", "open_clip:ViT-B-32/openai"),
    ("open_clip:ViT-B-32:openai", "open_clip:ViT-B-32/openai"),
    ("laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
    ("open_clip:laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
    ("ViT-B-16-SigLIP", "open_clip:ViT-B-16-SigLIP/webli"),
    ("open_clip:ViT-B-16-SigLIP2-256", "open_clip:ViT-B-16-SigLIP2-256/webli"),
    ("ViT-L-14-336", "open_clip:ViT-L-14-336/openai"),
    ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
     "open_clip:hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    ("open_clip:laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
     "open_clip:hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    ("timm/ViT-B-16-SigLIP", "open_clip:hf-hub:timm/ViT-B-16-SigLIP"),
    ("hf-hub:org/name", "open_clip:hf-hub:org/name"),
    (" openai/clip-vit-base-patch32 ", "transformers:openai/clip-vit-base-patch32"),
    ("google/siglip-base-patch16-224", "transformers:google/siglip-base-patch16-224"),
    ("google/siglip2-base-patch16-224", "transformers:google/siglip2-base-patch16-224"),
    ("facebook/dinov2-small", "transformers:facebook/dinov2-small"),
    ("dinov2_vits14", "timm:vit_small_patch14_dinov2.lvd142m?size=224"),
    ("dinov2_vitb14_reg", "timm:vit_base_patch14_reg4_dinov2.lvd142m?size=224"),
    ("vit_small_patch14_dinov2.lvd142m", "timm:vit_small_patch14_dinov2.lvd142m"),
])  # fmt: skip
def test_names_with_one_meaning_are_understood(name: str, spec: str) -> None:
    assert parse_spec(name).text == spec
    assert parse_spec(spec).text == spec


@pytest.mark.parametrize(("name", "first"), [
    ("ViT-B-32", "open_clip:ViT-B-32/openai"),
    ("open_clip:ViT-B-16", "open_clip:ViT-B-16/openai"),
    ("vit-b32", "open_clip:ViT-B-32/openai"),
    ("openai", "open_clip:ViT-B-32/openai"),
    ("laion2b_s34b_b88k", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
    ("clip", "open_clip:ViT-B-32/openai"),
    ("dinov2", "timm:vit_small_patch14_dinov2.lvd142m?size=224"),
    ("clip-vit-base-patch32", "transformers:openai/clip-vit-base-patch32"),
    ("dinov2-small", "transformers:facebook/dinov2-small"),
    ("open_clip:facebook/dinov2-small", "transformers:facebook/dinov2-small"),
    ("timm:facebook/dinov2-small", "transformers:facebook/dinov2-small"),
    ("someone/a-model", "transformers:someone/a-model"),
    ("timm/vit_base_patch32_clip_224.openai", "timm:vit_base_patch32_clip_224.openai"),
    ("/models/clip", "transformers:/models/clip"),
    ("./clip", "transformers:./clip"),
    ("resnet50_gn", "timm:resnet50_gn"),
])  # fmt: skip
def test_other_names_are_answered_with_a_spec(name: str, first: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_encoder(name)
    assert str(caught.value).startswith(f"encoder spec {name!r}: did you mean {first!r}")
    assert len(str(caught.value)) < 250
    parse_spec(first)


@pytest.mark.parametrize(
    "spec", ["transformers:", "transformers:name", "transformers:a/b/c", "transformers:a/b?size=3"]
)
def test_malformed_specs_of_transformers(spec: str) -> None:
    with pytest.raises(InvalidInput, match="transformers:<org>/<name>"):
        parse_spec(spec)


def test_folders_of_transformers_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parsed = parse_spec("transformers:./a b?pooling=mean-tokens")
    assert parsed.text == f"transformers:{tmp_path}/a b?pooling=mean-tokens"
    assert (parsed.model, parsed.weights) == ("local-dir", f"{tmp_path}/a b")
    assert parse_spec("transformers:a/b").model == "hf-hub"


def test_every_spec_that_is_named_exists() -> None:
    import open_clip
    import timm

    models = set(timm.list_models(pretrained=True))
    names = [
        *NAMES,
        "dinov2-small",
        "clip",
        "siglip",
        "siglip2",
        "dinov2",
        "webli",
        "openai",
        "dfn5b",
    ]
    names += ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14", "ViT-bigG-14", "RN50"]
    specs = [*NAMES.values(), *TWINS.values()]
    specs += [spec for name in names for spec in suggestions(name)]
    specs += [spec for one in PRESETS.values() for spec in (one.classifier, one.verifier)]
    for spec in specs:
        parsed = parse_spec(spec)
        if parsed.kind == "open_clip":
            assert parsed.weights in open_clip.list_pretrained_tags_by_model(parsed.model), spec
        elif parsed.kind == "timm":
            assert parsed.model in models, spec
    assert {parse_spec(spec).kind for spec in specs} == {"open_clip", "timm", "transformers"}


def test_names_that_are_understood_have_one_meaning() -> None:
    import open_clip

    models = open_clip.list_models()
    for name, spec in NAMES.items():
        parsed = parse_spec(spec)
        if name == parsed.model:
            assert open_clip.list_pretrained_tags_by_model(name) == [parsed.weights], name
        if name == parsed.weights:
            assert open_clip.list_pretrained_models_by_tag(name) == [parsed.model], name
    for model in models:  # no family takes a model that has other weights
        if (spec := understood(model)) is not None:
            assert open_clip.list_pretrained_tags_by_model(model) in ([spec.split("/")[1]], []), (
                spec
            )


def test_the_page_names_specs_that_are_read_as_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    section = page.partition("## A model of your choice")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    quoted = [[re.findall(r"`([^`…]+)`", cell) for cell in row] for row in rows]
    specs = [spec for row in quoted if len(row) > 2 for spec in row[0]]
    assert {spec.partition(":")[0] for spec in specs} == KINDS
    for spec in specs:
        assert parse_spec(spec).text == spec
    names = [row for row in quoted if len(row) == 2 and row[0] and row[1]]
    assert len(names) >= 4
    for shown, meant in names:
        assert {parse_spec(name).text for name in shown} >= set(meant)


def test_reading_a_spec_loads_nothing_heavy() -> None:
    code = (
        "import sys; from trustvlm.encoders.specs.parse import parse_spec; parse_spec('ViT-B/32')\n"
        "try: parse_spec('clip')\n"
        "except Exception as e: print(type(e).__name__)\n"
        "print([m for m in ('torch', 'open_clip', 'timm', 'transformers') if m in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.splitlines() == ["InvalidInput", "[]"]
