"""Who may come in: decided by AE titles and address, told in words, whatever a caller writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.config import CalledAeTitle, Listen, Node, Peer
from dicomnode.rules.reasons import Reason, sentence
from dicomnode.stages.receive.policy import Admission, shown

PEERS = {
    "pacs": Peer(ae_title=("PACS",), receives_from=True, addresses=("10.0.0.0/24", "fd00::/8")),
    "ct": Peer(ae_title=("CT*", "SCANNER?"), receives_from=True),
    "ct1": Peer(ae_title=("CT1",), receives_from=True, addresses=("10.0.1.1",)),
    "viewer": Peer(ae_title=("VIEWER",), receives_from=False),
    "odd": Peer(ae_title=("A.B[1]",), receives_from=True),
}
ADMISSION = Admission.of_settings(
    Node(ae_title="DICOMNODE"),
    Listen(ae_titles=(CalledAeTitle(title="PRIORS"),)),
    PEERS,
)


@pytest.mark.parametrize(
    ("calling", "called", "address", "expected"),
    [
        ("PACS", "DICOMNODE", "10.0.0.7", "pacs"),
        ("PACS", "PRIORS", "10.0.0.7", "pacs"),
        ("PACS", "DICOMNODE", "::ffff:10.0.0.7", "pacs"),
        ("PACS", "DICOMNODE", "fd00::1%eth0", "pacs"),
        ("CT77", "DICOMNODE", "192.168.1.1", "ct"),
        ("SCANNER1", "DICOMNODE", "192.168.1.1", "ct"),
        ("CT1", "DICOMNODE", "10.0.1.1", "ct1"),
        ("CT1", "DICOMNODE", "10.0.9.9", "ct"),
        ("A.B[1]", "DICOMNODE", "1.1.1.1", "odd"),
        ("PACS", "DICOMNODE", "10.0.1.7", "association.refused_address"),
        ("PACS", "DICOMNODE", "unix", "association.refused_address"),
        ("PACS", "OTHER", "10.0.0.7", "association.refused_called"),
        ("PACS", "dicomnode", "10.0.0.7", "association.refused_called"),
        ("pacs", "DICOMNODE", "10.0.0.7", "association.refused_calling"),
        ("VIEWER", "DICOMNODE", "10.0.0.7", "association.refused_calling"),
        ("AxB1", "DICOMNODE", "1.1.1.1", "association.refused_calling"),
        ("SCANNER", "DICOMNODE", "1.1.1.1", "association.refused_calling"),
        ("", "DICOMNODE", "10.0.0.7", "association.refused_calling"),
    ],
)
def test_a_caller_is_named_or_refused_with_the_first_thing_that_is_wrong(
    calling: str, called: str, address: str, expected: str
) -> None:
    verdict = ADMISSION.decide(calling, called, address)
    assert (verdict.code if isinstance(verdict, Reason) else verdict) == expected


def test_without_peers_nobody_is_let_in() -> None:
    nobody = Admission.of_settings(Node(), Listen(), {})
    verdict = nobody.decide("ANYBODY", "DICOMNODE", "127.0.0.1")
    assert isinstance(verdict, Reason)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=60))
def test_no_text_of_a_stranger_reaches_a_reason_unclean(
    calling: str, called: str, address: str
) -> None:
    verdict = ADMISSION.decide(calling, called, address)
    if isinstance(verdict, Reason):
        words = sentence(verdict)
        assert not set(words) & set("\n\r\0\x1b\u202e")
        assert all(len(str(value)) <= 64 for value in verdict.parameters.values())


@given(st.text(max_size=200))
def test_what_is_shown_is_bounded_and_never_empty(text: str) -> None:
    assert 1 <= len(shown(text)) <= 64
