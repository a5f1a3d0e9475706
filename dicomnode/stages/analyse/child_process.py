"""The worker's handle on its child: a process that can be killed at any instruction.

The child is spawned, never forked: a fork after a torch convolution hangs. Its memory is bounded
by RLIMIT_DATA on CPU (RLIMIT_AS would count CUDA's address space) and looked at from here; its
time by the worker's clock; and it dies with the worker (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from dicomnode.stages.analyse.messages import ANSWER, LONGEST_LINE, Cancel, Failed, Ready
from dicomnode.telemetry import logger

_LOOK_S = 0.25
_START_LIMIT_S = 120.0
_CANCEL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may take."""

    memory_bytes: int
    time_s: float
    threads: int


@dataclass(frozen=True, slots=True)
class Died:
    """The child is gone: by which signal or exit status, and what was at fault if known."""

    signal: str
    cause: str  # crashed, time_limit, memory, garbled


class ChildProcess:
    """One child, started when first needed and replaced after it died."""

    def __init__(self, device: str, limits: Limits) -> None:
        self._device = device
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._log = logger("analyse")

    @property
    def pid(self) -> int | None:
        """Process id of the living child."""
        return self._process.pid if self._process else None

    def start(self) -> Died | None:
        """Start a child if none lives and wait until it takes orders."""
        if self._process is not None and self._process.poll() is None:
            return None
        self._buffer = b""
        self._process = subprocess.Popen(  # noqa: S603  our own module, fixed arguments
            [
                sys.executable,
                "-m",
                "dicomnode.stages.analyse.child",
                self._device,
                str(self._limits.memory_bytes),
                str(self._limits.threads),
                str(os.getpid()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for answer in self.answers(time.monotonic() + _START_LIMIT_S):
            if isinstance(answer, Died):
                return answer
            if isinstance(answer, Ready):
                return None
        return None

    def order(self, message: BaseModel) -> None:
        """Give the child one order; a child that is gone is noticed by `answers`."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("start the child first")
        try:
            self._process.stdin.write(message.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._log.info("child_gone", pid=self._process.pid)

    def answers(self, deadline: float) -> Iterator[BaseModel | Died | None]:
        """Yield what the child says, None at each look when it says nothing, `Died` at last.

        ``deadline`` is in `time.monotonic` seconds; past it the child is killed, also one that
        says something at every look: only silence would let it go on for ever.
        """
        look_at = time.monotonic() + _LOOK_S
        while True:
            line = self._line_within(_LOOK_S)
            if line is not None:
                yield self._parsed(line)
            elif (died := self._found_dead()) is not None:
                yield died
                return
            now = time.monotonic()
            if now > deadline:
                yield self._killed_for("time_limit")
                return
            if now >= look_at:
                look_at = now + _LOOK_S
                if self._resident_bytes() > self._limits.memory_bytes:
                    yield self._killed_for("memory")
                    return
            if line is None:
                yield None

    def _killed_for(self, cause: str) -> Died:
        self.kill()
        return Died("SIGKILL", cause)

    def cancel(self) -> None:
        """Ask the child to stop its run; kill it when it does not within some seconds."""
        self.order(Cancel())
        for answer in self.answers(time.monotonic() + _CANCEL_GRACE_S):
            if answer is not None and getattr(answer, "say", "") != "progress":
                return

    def kill(self) -> None:
        """End the child at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self) -> None:
        """End an idle child: it leaves by itself when its input closes."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def _line_within(self, seconds: float) -> bytes | None:
        if self._process is None or self._process.stdout is None:
            return None
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                if not selector.select(seconds):
                    return None
            self._buffer += os.read(self._process.stdout.fileno(), 2**20)
            if len(self._buffer) > LONGEST_LINE:
                self.kill()
                return None
        line, found, rest = self._buffer.partition(b"\n")
        if not found:
            return None
        self._buffer = rest
        return line

    def _parsed(self, line: bytes) -> BaseModel:
        try:
            return ANSWER.validate_python(json.loads(line))
        except (ValueError, ValidationError):
            self.kill()
            return Failed(code="failed.crashed", parameters={"signal": "a garbled answer"})

    def _found_dead(self) -> Died | None:
        if self._process is None:
            return Died("SIGKILL", "crashed")
        status = self._process.poll()
        if status is None:
            return None
        self._close()
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Died(name, "crashed")

    def _resident_bytes(self) -> int:
        if self._process is None:
            return 0
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
