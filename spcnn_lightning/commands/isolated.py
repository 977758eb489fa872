"""Call a function in a process of its own, where it may crash, hang or print without harm."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHILD = (
    "import sys; sys.path[:] = sys.argv[1].split({sep!r}); "
    "from spcnn_lightning.commands.isolated import child; child(*sys.argv[2:])"
)


@dataclass(frozen=True)
class Answer:
    """What came back: a value, or the sentence why there is none."""

    value: Any = None
    failure: str = ""


class IsolatedCall:
    """A function that runs in another process.

    Args:
        target: The function, as "module:name". What it returns has to be data for JSON.
        arguments: Its arguments, data for JSON as well.
    """

    def __init__(self, target: str, *arguments: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._result = Path(self._folder.name) / "result.json"
        self._output = (Path(self._folder.name) / "output").open("wb+")
        self._started = time.monotonic()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        code = _CHILD.format(sep=os.pathsep)
        words = [path, target, json.dumps(arguments), str(self._result)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def is_running(self) -> bool:
        """Whether the answer is still to come."""
        return self._process.poll() is None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def answer(self, timeout: float) -> Answer:
        """Wait for the answer, for ``timeout`` seconds since the start, then end the process."""
        try:
            self._process.wait(max(0.0, timeout - self.seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return self._close(Answer(failure=f"gave no answer within {timeout:.0f} seconds"))
        return self._close(self._read())

    def _read(self) -> Answer:
        try:
            return Answer(**json.loads(self._result.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return Answer(failure=_how_it_ended(self._process.returncode, self._last_line()))

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _close(self, answer: Answer) -> Answer:
        self._output.close()
        self._folder.cleanup()
        return answer


def child(target: str, arguments: str, result: str) -> None:
    """Run in the other process: call the function and leave what it returns in a file."""
    try:
        module, _, name = target.partition(":")
        value = getattr(importlib.import_module(module), name)(*json.loads(arguments))
        answer = {"value": value}
    except Exception as error:
        answer = {"failure": f"{type(error).__name__}: {error}"}
    Path(result).write_text(json.dumps(answer), encoding="utf-8")


def _how_it_ended(status: int, last_line: str) -> str:
    how = f"ended with status {status} before it answered"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        how = f"crashed with {name}"
    return f"{how} (it said last: {last_line[:200]})" if last_line else how
