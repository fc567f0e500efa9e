"""An example for each command, shown at the end of its help.

They work one after the other, as printed, on the home that 'trustvlm demo' leaves, with
TRUSTVLM_HOME=demo-home; a test runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

EXAMPLES = {
    "demo": "trustvlm demo",
    "start": "trustvlm start demo-home/images/held-out --preset small",
    "space create": "trustvlm space create pets --preset small",
    "space list": "trustvlm space list",
    "space show": "trustvlm space show digits",
    "space remove": "trustvlm space remove pets --yes",
    "space restore": "trustvlm space restore pets",
    "register": "trustvlm register digits demo-home/images/eleventh",
    "label list": "trustvlm label list digits",
    "label update": "trustvlm label update digits flower --new-name blossom",
    "label alias": "trustvlm register digits --label bloom\n"
    "  trustvlm label alias digits bloom blossom",
    "label unalias": "trustvlm label unalias digits bloom",
    "label synonyms": "trustvlm label synonyms digits",
    "label parent": "trustvlm label parent digits nine odd",
    "label tree": "trustvlm label tree digits",
    "label set": 'trustvlm label set digits nine odd=true \'strokes=["loop", "line"]\'\n'
    "  trustvlm label set digits nine --unset strokes",
    "label count": "trustvlm label count digits --where 'odd = true'",
    "space index-attribute": "trustvlm space index-attribute digits odd",
    "label remove": "trustvlm label remove digits blossom",
    "label restore": "trustvlm label restore digits blossom",
    "support list": "trustvlm support list digits nine",
    "support count": "trustvlm support count digits nine",
    "support add": "trustvlm support add digits nine demo-home/images/held-out/nine/nine_20.png",
    "support update": 'trustvlm support update digits 4 --attributes \'{"hand": "left"}\'',
    "support remove": "trustvlm support remove digits 3",
    "support restore": "trustvlm support restore digits 3",
    "space history": "trustvlm space history digits",
    "space changes": "trustvlm space changes digits --since 10",
    "space log-verdicts": "trustvlm space log-verdicts digits --days 30 --rows 100000",
    "audit": "trustvlm audit digits\n  trustvlm audit digits demo-home/images/held-out --all",
    "propose": "trustvlm propose digits demo-home/images/held-out --few 20",
    "score": "trustvlm score digits demo-home/images/held-out/nine",
    "space verdicts": "trustvlm space verdicts digits --since 24h --decision review\n"
    "  trustvlm space verdicts digits --out verdicts.parquet",
    "bulk score": "trustvlm bulk score digits demo-home/images/held-out scores --keep-embeddings",
    "bulk embed": "trustvlm bulk embed digits demo-home/images/held-out embeddings",
    "bulk status": "trustvlm bulk status scores",
    "search": "trustvlm search digits --image demo-home/images/held-out/nine/nine_63.png",
    "map": "trustvlm map digits --format csv",
    "evaluate": "trustvlm evaluate digits demo-home/images/held-out --report report.html",
    "calibrate": "trustvlm calibrate digits demo-home/images/held-out --max-risk 0.05",
    "calibration list": "trustvlm calibration list digits",
    "calibration show": "trustvlm calibration show digits",
    "calibration remove": "trustvlm calibration remove digits 1",
    "feedback": "trustvlm feedback digits --label nine \\\n"
    "    --image demo-home/images/held-out/nine/nine_30.png --sampling random",
    "recalibrate": "trustvlm recalibrate digits",
    "monitor": "trustvlm monitor digits",
    "review on": "trustvlm review on digits",
    "review list": "trustvlm review list digits",
    "review add-logged": "trustvlm review add-logged digits --sample 50",
    "review next": "trustvlm review next digits",
    "review answer": "trustvlm review answer digits 1 --label nine",
    "review undo": "trustvlm review undo digits 1",
    "review skip": "trustvlm review skip digits 2",
    "review export": "trustvlm review export digits --output queue.csv",
    "review import": "trustvlm review import digits queue.csv",
    "review off": "trustvlm review off digits",
    "index list": "trustvlm index list",
    "index show": "trustvlm index show hnsw",
    "index stats": "trustvlm index stats digits",
    "index rebuild": "trustvlm index rebuild digits",
    "index suggest": "trustvlm index suggest digits",
    "index tune": "trustvlm index tune digits",
    "db current": "trustvlm db current",
    "db create": "trustvlm db create",
    "db copy": "trustvlm db copy demo-home copied-home",
    "db doctor": "trustvlm db doctor",
    "db new-epoch": "trustvlm db new-epoch",
    "db upgrade": "trustvlm db upgrade",
    "export": "trustvlm export digits digits-tables",
    "import": "trustvlm import digits-tables --as copy",
    "space repoint": "trustvlm space repoint digits --classifier open_clip:local-dir:/path/to/clip",
    "space reembed": "trustvlm space reembed pets --classifier ViT-L-14/openai",
    "backup": "trustvlm backup backup.zip",
    "restore": "trustvlm --home other-home restore backup.zip",
    "verify": "trustvlm verify digits",
    "purge": "trustvlm purge",
    "key create": "trustvlm key create --scope read --space digits",
    "key list": "trustvlm key list",
    "key rotate": "trustvlm key rotate 1f0c2a9b --overlap-hours 24",
    "key revoke": "trustvlm key revoke 1f0c2a9b",
    "serve": "trustvlm serve --port 8000",
    "completion": "trustvlm completion bash >> ~/.bashrc",
}
"""The words of a command → what a user types."""


def show_examples(root: click.Group) -> None:
    """Put the examples into the helps of the commands."""
    for words, command in _leaves(root):
        if words in EXAMPLES:
            command.help = f"{cleandoc(command.help or '')}\n\n\b\nExample:\n  {EXAMPLES[words]}"


def _leaves(group: click.Group, words: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        path = f"{words} {name}".strip()
        if isinstance(command, click.Group):
            yield from _leaves(command, path)
        else:
            yield path, command
