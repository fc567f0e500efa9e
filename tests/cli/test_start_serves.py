"""`trustvlm start --serve`: from a file or a folder to the page, with one command."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from cli_runner import COMMAND, Cli, save_labels, without_home_variables
from server_process import ready


@pytest.mark.slow  # .ci/run names this file
def test_one_command_leads_to_the_page(tmp_path: Path) -> None:
    seen = np.repeat(np.eye(2, 4), 10, axis=0) + 0.01
    vectors = save_labels(tmp_path / "aerial.npz", shots=10, classifier_image_vectors=seen)
    process = subprocess.Popen(
        [*COMMAND, "--home", tmp_path / "home", "start", vectors, "--serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_home_variables(),
    )
    try:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"Serving .* at (http://127\.0\.0\.1:\d+)/", said)):
            line = process.stdout.readline()
            assert line, said + process.communicate()[1]
            said += line
        ready(found[1])
        assert "<title>trustvlm" in httpx.get(f"{found[1]}/", timeout=60).text
        spaces = httpx.get(f"{found[1]}/v1/spaces", timeout=60).json()["spaces"]
        assert [space["name"] for space in spaces] == ["aerial"]
        assert " serve    #" not in said
        assert f"trustvlm --home {tmp_path}/home score aerial" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_bad_ports_are_refused_before_anything_is_made(tmp_path: Path, port: str) -> None:
    said = Cli(tmp_path / "home")("start", tmp_path, "--serve", "--port", port, code=2)
    assert "--port" in said
    assert not (tmp_path / "home").exists()
