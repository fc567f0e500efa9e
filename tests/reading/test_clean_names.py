"""What labels are called: cleaned names, maps of folders to names, prompts of many labels, and what
is said of odd ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import make_clip
from cli_runner import Cli
from served_client import application, client_of
from test_folders import picture

import trustvlm
from trustvlm.errors import InvalidInput
from trustvlm.reading.lists import read_map
from trustvlm.reading.naming import Naming, clean_name


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("golden_retriever", "golden retriever"),
        ("great__white_shark_", "great white shark"),
        ("ice+cream", "ice cream"),
        ("AnnualCrop", "Annual Crop"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("WritingOnBoard", "Writing On Board"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("01_cat", "cat"),
        ("0 - cat", "cat"),
        ("n02085620-Chihuahua", "Chihuahua"),
        ("n02113799-standard_poodle", "standard poodle"),
        ("Corn_(maize)___Common_rust_", "Corn (maize) Common rust"),
        # As they are
        *(
            (name, name)
            for name in (
                "cat",
                "golden retriever",
                "n01440764",
                "t-shirt",
                "737-200",
                "7.62mm",
                "007",
                "0",
                "Boeing 747",
            )
        ),
        *(
            (name, name)
            for name in (
                "McDonald",
                "DeLorean",
                "iPhone",
                "YoYo",
                "BMW",
                "X-ray",
                "Forêt",
                "森林",
                "c++",
                "911 Carrera",
                "_",
            )
        ),
    ],
)
def test_clean_names(name: str, clean: str) -> None:
    assert clean_name(name) == clean
    assert clean_name(clean) == clean


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "folder,name\nn01,tench\nn02,great white shark\n",
            {"n01": "tench", "n02": "great white shark"},
        ),
        ("Name;WNID\r\ntench;n01\r\n", {"n01": "tench"}),
        ("\ufeffLabelName,DisplayName\n/m/01,Tortoise\n", {"/m/01": "Tortoise"}),
        ('wnid\tlabel\nn01\t"tench, Tinca tinca"\n', {"n01": "tench, Tinca tinca"}),
        ("a_b,A b\nc_d,C d\n", {"a_b": "A b", "c_d": "C d"}),
        (
            "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
            {"n01440764": "tench", "n01443537": "goldfish"},
        ),
        ("n01440764\ttench\n", {"n01440764": "tench"}),
        ("n01440764: tench\n", {"n01440764": "tench"}),
        (
            "n02119789 1 kit_fox\nn02100735 2 English_setter\n",
            {"n02119789": "kit_fox", "n02100735": "English_setter"},
        ),
        ('{"n01": "tench", "n02": "shark"}', {"n01": "tench", "n02": "shark"}),
        ('{"1": "tench", "2": "shark"}', {"1": "tench", "2": "shark"}),
        ('{"tench": 0, "shark": 1}', {"0": "tench", "1": "shark"}),
        ('{"0": ["n01", "tench"]}', {"0": "tench", "n01": "tench"}),
        ('["tench", "shark"]', {"0": "tench", "1": "shark"}),
        ("tench\nshark\n", {"0": "tench", "1": "shark"}),
    ],
)
def test_maps(tmp_path: Path, content: str, expected: dict[str, str]) -> None:
    path = tmp_path / "names"
    path.write_text(content, encoding="utf-8", newline="")
    assert {folder: one.name for folder, one in read_map(path).items()} == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "a,b,c\nd,e,f\n",
            "expected the columns folder and name and, optionally, prompt; got a, b, c",
        ),
        ("folder,name\na,\n", "line 2: expected a folder and its name"),
        ("folder,name\na,b,c\n", "line 2: expected 2 columns, got 3"),
        ("folder,name\na,b\na,c\n", "the folder 'a' has two names: 'b' (line 2) and 'c' (line 3)"),
        ('{"a": {"b": "c"}}', "got an object with the keys 'a'"),
        ("", "found nothing"),
        ("a: b\nc: d\n", "key: value"),
        (b"PK\x03\x04", "this is a zip archive"),
    ],
)
def test_maps_that_cannot_be_right(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "names"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput) as error:
        read_map(path)
    assert said in str(error.value)


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'a_b' and 'a b' would both become the label 'a b'"):
        Naming(clean=True).labels(["a_b", "a b"])
    path = tmp_path / "names"
    path.write_text("n01440764 crane\nn01443537 crane\n")
    with pytest.raises(
        InvalidInput,
        match=f"would both become the label 'crane'; give one of them another name in {path}",
    ):
        Naming(path).labels(["n01440764", "n01443537"])
    with pytest.raises(InvalidInput, match="no name for 'n2', 'n3'"):
        Naming(path).labels(["n2", "n3"])
    assert Naming(path).labels(["n01440764", "other"], keep={"other"})["other"].name == "other"


# On the command line


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture
def cli(tmp_path: Path, clip: str) -> Cli:
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", clip)
    return cli


def photos(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        picture(folder / name / "1.png", seed)
    return folder


def prompts(cli: Cli) -> dict[str, str | None]:
    return {row["name"]: row["prompt"] for row in cli.rows("label", "list", "s")}


def test_a_folder_with_raw_names(cli: Cli, tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", "golden_retriever", "AnnualCrop", "cat", "n01440764")
    said = cli.run("register", "s", folder).stderr
    assert (
        "2 of 4 names go to the text encoder exactly as spelled, such as 'AnnualCrop'; "
        "--clean-names turns it into" in said
    )
    assert (
        "1 of 4 names are WordNet ids such as 'n01440764', unknown to text encoders; --names FILE"
        in said
    )
    assert "spelled" not in cli.run("register", "s", folder).stderr  # once


def test_clean_names_and_one_prompt_for_a_folder(cli: Cli, tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", "golden_retriever", "001.Black_footed_Albatross")
    done = cli.run(
        "register", "s", folder, "--clean-names", "--prompt", "a photo of a {}, an animal"
    )
    assert "spelled" not in done.stderr
    assert prompts(cli) == dict.fromkeys(
        ["golden retriever", "Black footed Albatross"], "a photo of a {}, an animal"
    )
    assert "nothing new" in cli("register", "s", folder, "--clean-names")


def test_a_map_of_wordnet_ids(cli: Cli, tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", "n01440764", "n01443537")
    path = tmp_path / "index.json"
    path.write_text(
        json.dumps(
            {
                "0": ["n01440764", "tench"],
                "1": ["n01443537", "gold_fish"],
                "2": ["n01484850", "shark"],
            }
        )
    )
    assert (
        "WordNet" not in cli.run("register", "s", folder, "--names", path, "--clean-names").stderr
    )
    assert prompts(cli) == {"tench": None, "gold fish": None}
    path.write_text("folder,name,prompt\nn01440764,tench,\nn01443537,koi,a koi.\n")
    cli("register", "s", photos(tmp_path / "more", "n01443537"), "--names", path)
    assert prompts(cli)["koi"] == "a koi."
    path.write_text("n01440764 tench\n")
    assert "no name for 'n01443537'" in cli("register", "s", folder, "--names", path, code=2)


def test_a_list_with_raw_names(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("golden_retriever\ncat\n")
    cli("register", "s", "--labels", path, "--clean-names", "--prompt", "a {}.")
    assert prompts(cli) == {"golden retriever": "a {}.", "cat": "a {}."}


def test_options_that_do_not_go_together(cli: Cli, tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", "cat")
    for arguments, message in [
        ((folder, "--prompt", "a cat"), "expected {} where the name goes"),
        (("--vectors", "x.npz", "--prompt", "a {}"), "--prompt is for names that are encoded"),
        (("--labels", "x", "--names", "y"), "--names is for a folder"),
        ((folder, "--label", "cat", "--names", "y"), "--names is for a folder"),
        (("--label", "cat", "--clean-names"), "--clean-names is for"),
    ]:
        assert message in cli("register", "s", *arguments, code=2)
    assert prompts(cli) == {}


def test_folders_with_raw_names_are_measured_by_the_same_options(cli: Cli, tmp_path: Path) -> None:
    folder, path = photos(tmp_path / "set", "golden_retriever", "n01440764"), tmp_path / "names.csv"
    path.write_text(
        "n01440764,tench\ngolden_retriever,golden_retriever\nother_things,other things\n"
    )
    cli("register", "s", folder, "--names", path, "--clean-names")
    others = tmp_path / "others"
    for seed, name in enumerate(
        ("golden_retriever/1.png", "n01440764/1.png", "other_things/1.png")
    ):
        picture(others / name, 50 + seed)
    naming = ("--names", path, "--clean-names")
    for name in ("other_things", "other things"):
        done = cli(
            "evaluate",
            "s",
            others,
            *naming,
            "--no-label",
            name,
            "--rules",
            "msp",
            "--draws",
            "0",
            "--json",
        )
        assert json.loads(done)["images"] == 3
    assert "no label 'other things'" in cli("evaluate", "s", others, *naming, code=3)
    told = cli("feedback", "s", others, *naming, "--no-label", "other_things", "--json")
    assert json.loads(told)["added"] == 3


def test_what_would_make_names_of_folders_labels(cli: Cli, tmp_path: Path) -> None:
    cli("register", "s", photos(tmp_path / "set", "golden_retriever", "cat"), "--clean-names")
    (tmp_path / "ids").mkdir()
    for verb in ("evaluate", "calibrate", "feedback"):
        said = cli(verb, "s", tmp_path / "set", code=3)
        assert (
            "no label 'golden_retriever' in space 's'; --clean-names turns it into 'golden "
            "retriever', which is" in said
        )
        assert "--names FILE translates them" in cli(
            verb, "s", photos(tmp_path / "ids", "n01440764"), code=3
        )
        assert "--clean-names is for" in cli(
            verb, "s", "--vectors", "x.npz", "--clean-names", code=2
        )


# Prompts that are cut


def test_prompts_longer_than_the_model_reads(cli: Cli, tmp_path: Path, clip: str) -> None:
    path, long = tmp_path / "names.csv", "very " * 80 + "{}"
    path.write_text(f"name,prompt\ncat,{long}\ndog,a dog\n")
    done = cli.run("register", "s", "--labels", path)
    assert "prompts longer than the classifier reads, whose ends are ignored: cat\n" in done.stderr
    assert "longer" not in cli.run("register", "s", "--labels", path).stderr
    assert (
        "longer than the classifier reads, whose ends are ignored: 'dog'"
        in cli.run("label", "update", "s", "dog", "--prompt", long).stderr
    )
    with trustvlm.open(tmp_path / "home") as service:
        result = service.register(
            "s", [trustvlm.LabelInput("bird", prompt=long), trustvlm.LabelInput("fish")]
        )
        assert result.cut_prompts == ("bird",)


def test_a_client_is_given_the_labels_whose_prompts_are_cut(cli: Cli, tmp_path: Path) -> None:
    long = "very " * 80 + "{}"
    inputs = [
        trustvlm.LabelInput("bird", prompt=long),
        trustvlm.LabelInput("fish"),
        trustvlm.LabelInput("cow", prompt=long),
    ]
    with application(tmp_path / "home") as app, client_of(app) as client:
        assert client.register("s", inputs).cut_prompts == ("bird", "cow")


@pytest.mark.parametrize(("style", "context"), [("clip", 77), ("siglip", 24), ("embed-cls", 20)])
def test_where_the_context_ends(tmp_path: Path, style: str, context: int) -> None:
    from trustvlm.encoders.open import open_encoder

    encoder = open_encoder(make_clip(tmp_path / style, style=style))
    room = context - 2  # start and end
    texts = ["cat " * n for n in (1, room - 1, room, room + 1, 3 * room)] + [
        "!" * (room + 40),
        "",
        "x" * 10,
    ]
    assert encoder.cut(texts) == [False, False, False, True, True, False, False, False]


def test_a_list_of_wordnet_ids(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("n01440764\nn01443537\n")
    said = cli.run("register", "s", "--labels", path).stderr
    assert (
        "2 of 2 names are WordNet ids such as 'n01440764', unknown to text encoders; "
        "register a list of plain names" in said
    )
