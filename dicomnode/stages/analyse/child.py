"""The process in which pipelines run: takes orders on standard input, answers on standard output.

It decodes hostile streams and runs foreign code, so it holds no database connection, no socket and
no secret, and it may be killed at any instruction. Started as
``python -m dicomnode.stages.analyse.child DEVICE MEMORY_BYTES THREADS PARENT_PID``.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
from io import TextIOWrapper
from typing import assert_never

from pydantic import BaseModel

from dicomnode.errors import ConfigurationError, DicomNodeError, EncodingError
from dicomnode.sdk import Cancelled
from dicomnode.stages.analyse import installed
from dicomnode.stages.analyse.messages import (
    ORDER,
    Analyse,
    Cancel,
    Compare,
    Compared,
    Describe,
    Described,
    Encode,
    EncodeStatus,
    Failed,
    Progress,
    Ready,
    WasCancelled,
)
from dicomnode.stages.analyse.one import Analysis, Running, compare, encode_status
from dicomnode.stages.kernel import die_with_parent
from dicomnode.telemetry import configure_logging, logger


def main(arguments: list[str]) -> None:
    """Serve one worker until its pipe closes."""
    device, memory_bytes, threads, parent = arguments
    die_with_parent(int(parent))
    answers = _claim_stdout()
    configure_logging("analyse-child")
    if device == "cpu":
        # RLIMIT_DATA and not RLIMIT_AS: address space says nothing about memory taken.
        limit = int(memory_bytes)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    _Child(device, int(threads), answers).serve()


def _claim_stdout() -> TextIOWrapper:
    """Keep standard output for answers; what libraries print goes to standard error."""
    private = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return TextIOWrapper(os.fdopen(private, "wb"), encoding="utf-8")


class _Child:
    def __init__(self, device: str, threads: int, answers: TextIOWrapper) -> None:
        self._device = device
        self._threads = threads
        self._answers = answers
        self._orders: queue.Queue[BaseModel] = queue.Queue()
        self._cancelled = threading.Event()
        self._answering = threading.Lock()
        self._analysis: Analysis | None = None
        self._log = logger("analyse")

    def serve(self) -> None:
        """Listen in one thread, so that a running pipeline hears that it is cancelled."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        self._say(Ready())
        while True:
            self._carry_out(self._orders.get())

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            order = ORDER.validate_python(json.loads(line))
            if isinstance(order, Cancel):
                self._cancelled.set()
            else:
                self._orders.put(order)
        # The worker closed the pipe or is gone: nobody wants what runs here any more.
        os._exit(0)

    def _say(self, answer: BaseModel) -> None:
        with self._answering:
            self._answers.write(answer.model_dump_json() + "\n")
            self._answers.flush()

    def _carry_out(self, order: BaseModel) -> None:
        stage = Running()
        try:
            self._say(self._answer_to(order, stage))
        except Cancelled:
            self._say(WasCancelled())
        except ConfigurationError as fault:
            self._say(_failed("failed.settings", fault, stage, keyword=fault.faults[0]))
        except EncodingError as fault:
            self._say(_failed(fault.code, fault, stage, rule=str(fault)))
        except DicomNodeError as fault:
            self._say(_failed(fault.code, fault, stage))
        except MemoryError as fault:
            self._say(_failed("failed.memory", fault, stage))
        except Exception as fault:  # noqa: BLE001  top of this process's loop: foreign code runs below
            code = "failed.memory" if _is_out_of_memory(fault) else "failed.error"
            self._log.exception("child_failed", stage=stage.stage)
            self._say(_failed(code, fault, stage))
        finally:
            self._cancelled.clear()

    def _answer_to(self, order: BaseModel, stage: Running) -> BaseModel:
        stage.report = lambda name, fraction, text: self._say(
            Progress(stage=name, fraction=fraction, text=text[:200])
        )
        stage.is_cancelled = self._cancelled.is_set
        match order:
            case Describe():
                return Described(pipelines=tuple(installed.describe_all(order.settings)))
            case Analyse():
                self._analysis = None
                device = "cpu" if order.on_cpu else self._device
                self._analysis = Analysis(order, device, self._threads, stage)
                return self._analysis.run()
            case Encode():
                if self._analysis is None or self._analysis.order.key != order.key:
                    raise RuntimeError("asked to encode what was not analysed")
                return self._analysis.encode(order, stage)
            case EncodeStatus():
                return encode_status(order, stage)
            case Compare():
                return Compared(equal=compare(order.first, order.second))
            case _:
                assert_never(order)  # type: ignore[arg-type]


def _is_out_of_memory(fault: Exception) -> bool:
    """Tell torch's ways of saying that memory ran out; only CUDA's has a class of its own."""
    text = str(fault)
    return type(fault).__name__ == "OutOfMemoryError" or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "bad_alloc")
    )


def _failed(code: str, fault: BaseException, stage: Running, **told: str) -> Failed:
    parameters = {"error_class": type(fault).__name__, "stage": stage.stage}
    return Failed(code=code, parameters={**parameters, **{k: v[:200] for k, v in told.items()}})


if __name__ == "__main__":
    main(sys.argv[1:])
