"""What tests/system/test_sandbox.py runs in a sandbox."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from trustvlm.system.sandbox import Message, Unreadable, limit_cpu


def work(head: dict[str, Any], parts: list[bytearray]) -> Iterator[Message]:
    match head["do"]:
        case "repeat":
            for number in range(head["times"]):
                yield {"number": number}, parts
        case "print":
            os.write(1, b"noise of a library")
            yield {}, ()
        case "read":
            yield {}, (os.read(head["file"], 100),)
        case "forge":
            os.write(head["file"], head["frame"].encode("latin-1"))
            time.sleep(60)
        case "refuse":
            raise Unreadable("it is no picture")
        case "take":
            yield {"length": len(bytes(head["bytes"]))}, ()
        case "flood":
            yield {}, (bytes(head["bytes"]),)
        case "limit":
            limit_cpu(0.5)
            while True:
                pass
        case "spin":
            while True:
                pass
        case "wait":
            time.sleep(60)
        case "crash":
            os.abort()
        case "leave":
            os._exit(9)
        case "fail":
            raise KeyError("a bug")
