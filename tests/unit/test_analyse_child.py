"""The worker's child: it answers, and when it hangs, dies, eats or raises, the worker is told."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from dicomnode.dicom.files import data_set_digest
from dicomnode.stages.analyse import messages
from dicomnode.stages.analyse.child_process import ChildProcess, Died, Limits
from tests.data import ct_series, save_all

TOYS = Path(__file__).parents[1] / "toy_pipelines"
KEY = "ab" * 32
MEMORY = 3 * 10**9


@pytest.fixture(scope="module")
def child(request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    """One child that finds the toy pipelines as installed packages."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(TOYS), os.environ.get("PYTHONPATH", "")]))
    made = ChildProcess("cpu", Limits(MEMORY, 60.0, 1))
    yield made
    made.kill()
    patch.undo()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[messages.SourceFile, ...]:
    folder = tmp_path_factory.mktemp("ct")
    return tuple(
        messages.SourceFile(path=str(path), digest=data_set_digest(path))
        for path in save_all(ct_series(slices=5, rows=32), folder)
    )


def analyse(pipeline: str, source: tuple[messages.SourceFile, ...]) -> messages.Analyse:
    return messages.Analyse(pipeline=pipeline, settings={}, key=KEY, series=(source,))


def ask(child: ChildProcess, order: BaseModel, limit_s: float = 60.0) -> BaseModel | Died:
    assert child.start() is None
    child.order(order)
    for answer in child.answers(time.monotonic() + limit_s):
        if answer is not None and not isinstance(answer, messages.Progress):
            return answer
    raise AssertionError("the answers ended without one")


def test_every_installed_pipeline_is_described(child: ChildProcess) -> None:
    answer = ask(child, messages.Describe(settings={"toy-ok": {"no_such_key": 1}}))
    assert isinstance(answer, messages.Described)
    found = {one.name: one for one in answer.pipelines}
    assert found["toy-declines"].broken is None
    assert found["toy-declines"].takes == "volume"
    assert "no_such_key is not a key" in str(found["toy-ok"].broken)


def test_a_run_gives_results_that_passed_the_gate(
    child: ChildProcess, source: tuple[messages.SourceFile, ...], tmp_path: Path
) -> None:
    found = ask(child, analyse("toy-ok", source))
    assert isinstance(found, messages.Analysed)
    wanted = messages.ResultSet(key=KEY + "|f", form="f", presents=("seg", "sr"), sr="3d")
    order = messages.Encode(
        key=KEY,
        finished_at_ms=1_790_000_000_000,
        device_serial_number="node",
        sets=(wanted,),
        target=str(tmp_path / "1.1.{number}.dcm"),
    )
    encoded = ask(child, order)
    assert isinstance(encoded, messages.Encoded), encoded
    assert [one.kind for one in encoded.objects] == ["SEG", "SR"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.1.1.dcm", "1.1.2.dcm"]


def test_nothing_is_encoded_that_was_not_analysed(child: ChildProcess) -> None:
    order = messages.Encode(
        key="cd" * 32, finished_at_ms=0, device_serial_number="n", sets=(), target="{number}"
    )
    answer = ask(child, order)
    assert isinstance(answer, messages.Failed)


def test_a_file_with_other_bytes_than_received_is_told(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    damaged = (source[0].model_copy(update={"digest": "0" * 64}), *source[1:])
    answer = ask(child, analyse("toy-ok", damaged))
    assert isinstance(answer, messages.Failed)
    assert answer.code == "failed.source"


@pytest.mark.parametrize(
    ("pipeline", "kind", "code"),
    [
        ("toy-declines", messages.Declined, "declined.pipeline"),
        ("toy-raises", messages.Failed, "failed.error"),
        ("no-such-pipeline", messages.Failed, "failed.pipeline_missing"),
    ],
)
def test_what_a_pipeline_comes_to_is_told_with_a_code(
    child: ChildProcess,
    source: tuple[messages.SourceFile, ...],
    pipeline: str,
    kind: type[messages.Declined] | type[messages.Failed],
    code: str,
) -> None:
    answer = ask(child, analyse(pipeline, source))
    assert isinstance(answer, kind)
    assert answer.code == code
    pid = child.pid
    assert ask(child, analyse("toy-declines", source))
    assert child.pid == pid, "the child lives on"


def test_a_child_that_hangs_is_killed_at_its_limit(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    answer = ask(child, analyse("toy-hangs", source), limit_s=3.0)
    assert answer == Died("SIGKILL", "time_limit")
    assert child.pid is None


def test_a_child_that_never_falls_silent_is_killed_at_its_limit(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    answer = ask(child, analyse("toy-talks", source), limit_s=3.0)
    assert answer == Died("SIGKILL", "time_limit")


def test_the_memory_of_a_child_that_never_falls_silent_is_looked_at(
    child: ChildProcess,
    source: tuple[messages.SourceFile, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert child.start() is None
    monkeypatch.setattr(child, "_limits", Limits(1, 60.0, 1))
    answer = ask(child, analyse("toy-talks", source), limit_s=30.0)
    assert answer == Died("SIGKILL", "memory")


def test_a_child_that_dies_is_told_with_its_signal_and_replaced(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    answer = ask(child, analyse("toy-dies", source))
    assert isinstance(answer, Died)
    assert (answer.signal, answer.cause) == ("SIGKILL", "crashed")
    assert isinstance(ask(child, analyse("toy-declines", source)), messages.Declined)


def test_a_child_that_eats_memory_ends_at_its_limit(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    answer = ask(child, analyse("toy-eats-memory", source))
    in_words = isinstance(answer, messages.Failed) and answer.code == "failed.memory"
    assert in_words or answer == Died("SIGKILL", "memory")


def test_a_running_pipeline_hears_that_it_is_cancelled(
    child: ChildProcess, source: tuple[messages.SourceFile, ...]
) -> None:
    assert child.start() is None
    child.order(analyse("toy-hangs", source))
    answers = child.answers(time.monotonic() + 30.0)
    next(answer for answer in answers if isinstance(answer, messages.Progress))
    started = time.monotonic()
    child.cancel()
    assert time.monotonic() - started < 10.0
    assert isinstance(ask(child, analyse("toy-declines", source)), messages.Declined)


def test_equal_content_is_told_from_other(child: ChildProcess, tmp_path: Path) -> None:
    first, second = (save_all(ct_series(slices=2, rows=32), tmp_path / n)[0] for n in "ab")
    other = save_all(ct_series(slices=2, rows=32), tmp_path / "c")[1]
    same = ask(child, messages.Compare(first=str(first), second=str(second)))
    assert same == messages.Compared(equal=True)
    answer = ask(child, messages.Compare(first=str(first), second=str(other)))
    assert answer == messages.Compared(equal=False)
