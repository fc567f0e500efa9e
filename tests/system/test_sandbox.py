"""A child process with limits: what it answers, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trustvlm.errors import Unavailable
from trustvlm.system.sandbox import Sandbox, Unreadable
from trustvlm.system.sandbox_pool import borrow, borrowed, give_back

MEMORY = 100 * 2**20


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox("sandboxed:work")
    yield opened
    opened.close()


def ask(sandbox: Sandbox, do: str, *parts: Any, seconds: float = 20.0, **head: Any) -> list[Any]:
    return list(sandbox.ask({"do": do, **head}, *parts, memory=MEMORY, seconds=seconds))


def test_answers_come_one_by_one_with_their_bytes(sandbox: Sandbox) -> None:
    numbers = np.arange(300_000, dtype=np.float32)
    answers = ask(sandbox, "repeat", numbers, b"", b"abc", times=3)
    assert [head for head, _ in answers] == [{"number": 0}, {"number": 1}, {"number": 2}]
    for _, parts in answers:
        np.testing.assert_array_equal(np.frombuffer(parts[0], np.float32), numbers)
        assert parts[1:] == [b"", b"abc"]
    assert ask(sandbox, "repeat", times=0) == []
    assert ask(sandbox, "print") == [({}, [])]


def test_a_file_is_inherited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        sandbox = Sandbox("sandboxed:work", files=[file.fileno()])
        assert ask(sandbox, "read", file=file.fileno()) == [({}, [b"content"])]
        sandbox.close()


def test_a_refusal_and_a_lack_of_memory_leave_the_child_alive(sandbox: Sandbox) -> None:
    with pytest.raises(Unreadable, match=r"^it is no picture$"):
        ask(sandbox, "refuse")
    with pytest.raises(Unreadable, match=r"^it needs more than 100 MiB of memory to be read$"):
        ask(sandbox, "take", bytes=2 * MEMORY)
    with pytest.raises(Unavailable, match="KeyError: 'a bug'"):
        ask(sandbox, "fail")
    assert ask(sandbox, "take", bytes=MEMORY // 2) == [({"length": MEMORY // 2}, [])]


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("spin", "could not be read within 0.5 s"),
        ("wait", "could not be read within 0.5 s"),
        ("crash", "its reader ended over it with SIGABRT"),
        ("leave", "its reader ended over it with exit code 9"),
    ],
)
def test_a_child_that_hangs_or_dies_is_one_sentence(sandbox: Sandbox, do: str, reason: str) -> None:
    ask(sandbox, "print")
    begun = time.perf_counter()
    with pytest.raises(Unreadable, match=reason):
        ask(sandbox, do, seconds=0.5)
    assert time.perf_counter() - begun < 20
    assert not sandbox.usable
    with pytest.raises(Unreadable, match="ended"):
        ask(sandbox, "print")


def test_a_child_that_is_killed_while_it_waits_is_replaced(sandbox: Sandbox) -> None:
    ask(sandbox, "print")
    for _ in range(20):
        os.kill(sandbox._child.pid, signal.SIGKILL)  # it may end now, or a little later
        assert ask(sandbox, "repeat", b"abc", times=1) == [({"number": 0}, [b"abc"])]
    sandbox.close()
    with pytest.raises(Unreadable, match="ended"):
        ask(sandbox, "print")


def test_cpu_time_is_limited_by_the_child_itself(sandbox: Sandbox) -> None:
    with pytest.raises(Unreadable, match="takes too much CPU time"):
        ask(sandbox, "limit", seconds=30.0)


def test_an_answer_is_no_larger_than_the_memory(sandbox: Sandbox) -> None:
    assert len(ask(sandbox, "flood", bytes=MEMORY // 4)[0][1][0]) == MEMORY // 4
    with pytest.raises(Unreadable, match="more than 1 MiB"):
        list(sandbox.ask({"do": "flood", "bytes": 2**20 + 1}, memory=2**20, seconds=20))


@pytest.mark.parametrize(
    "frame",
    [
        "\xff\xff\xff\xff",
        "\0\0\0\2[]",
        "\0\0\0\1{",
        '\0\0\0\x0e{"sizes":[-9]}',
        '\0\0\0\x0f{"sizes":["x"]}',
    ],
)
def test_a_child_that_was_taken_over_sends_nothing_but_refusals(frame: str) -> None:
    """The child writes to the pipe of its answers, which it finds at its lowest free number."""
    sandbox = Sandbox("sandboxed:work")
    ask(sandbox, "print")
    with pytest.raises(Unreadable):
        ask(sandbox, "forge", file=3, frame=frame)
    assert not sandbox.usable
    sandbox.close()


def test_closing_in_another_thread_ends_a_wait(sandbox: Sandbox) -> None:
    ask(sandbox, "print")
    threading.Timer(0.3, sandbox.close).start()
    begun = time.perf_counter()
    with pytest.raises(Unreadable, match="SIGKILL"):
        ask(sandbox, "wait")
    assert time.perf_counter() - begun < 20


def test_what_does_not_start_is_unavailable(capfd: pytest.CaptureFixture[str]) -> None:
    sandbox = Sandbox("no_such_module:work")
    with pytest.raises(Unavailable, match=r"does not start.*exit code 1"):
        ask(sandbox, "print")
    assert "no_such_module" in capfd.readouterr().err
    sandbox.close()


def test_a_sandbox_waits_for_the_next_caller_unless_it_is_in_no_state_to() -> None:
    with borrowed("sandboxed:work") as first:
        ask(first, "print")
        with borrowed("sandboxed:work") as second:
            assert second is not first
    again = borrow("sandboxed:work")
    assert again in (first, second)
    assert ask(again, "repeat", times=1) == [({"number": 0}, [])]
    next(again.ask({"do": "repeat", "times": 2}, memory=MEMORY, seconds=20.0))
    give_back(again)  # with an answer that nobody took
    assert again._child.poll() == -signal.SIGKILL
    other = borrow("sandboxed:work")
    assert other not in (again, None)
    with pytest.raises(Unreadable):
        ask(other, "crash")
    give_back(other)
    with borrowed("sandboxed:work") as new:
        assert new not in (first, second)
        assert ask(new, "print") == [({}, [])]
    new.close()


def test_the_child_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        sandbox = Sandbox("sandboxed:work")
        ask(sandbox, "print")
        os.write(writer, str(sandbox._child.pid).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    child = int(os.read(reader, 20))
    for descriptor in (reader, writer):
        os.close(descriptor)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.05)
    raise AssertionError("the child outlived its parent")
