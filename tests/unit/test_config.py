"""The configuration is checked whole, and every fault is told with line, key and nearest name."""

from pathlib import Path

import pytest

from dicomnode.cli.example import example
from dicomnode.config import Settings, load, parse
from dicomnode.errors import ConfigurationError

PEER = '[peers.pacs]\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = 4242\n'


def faults(text: str) -> str:
    with pytest.raises(ConfigurationError) as found:
        parse(text, source="dicomnode.toml")
    return str(found.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[node]\nae_titel = "X"\n', "line 2: node.ae_titel is not a key; did you mean 'ae_title'"),
        ("[nodes]\n", "line 1: nodes is not a key; did you mean 'node'"),
        ('[listen]\nport = "11112"\n', "line 2: listen.port = '11112': should be a valid integer"),
        ("[listen]\nport = 70000\n", "line 2: listen.port = 70000"),
        ("[complete]\nquiet = 60\n", "line 2: complete.quiet = 60: wants a text with a unit"),
        ('[complete]\nquiet = "60 parsecs"\n', "'60s' (ms, s, min, h, d)"),
        ("[retention]\nimages = 14.0\n", "retention.images = 14.0: wants a text with a unit"),
        ("[retention]\nfree = 10.0\n", "wants a percentage, such as '10%'"),
        ("[retention]\nfree = 0.1\n", "wants a percentage, such as '10%'"),
        ('[retention]\nfree = "100%"\n', "wants a percentage, such as '10%'"),
        ('[retention]\nimages = "99999999999d"\n', "is longer than a hundred years"),
        ("[analyse]\nmemory = 6\n", "wants a text with a unit, such as '6GB'"),
        ('[retention]\nfree = "many"\n', "wants a percentage, such as '10%'"),
        ('[analyse]\nmemory = "6"\n', "such as '6GB'"),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"\n', "node.ae_title"),
        ('[node]\nae_title = "BACK\\\\SLASH"\n', "node.ae_title"),
        (PEER + "recieves_from = true\n", "did you mean 'receives_from'"),
        (
            '[peers.pacs]\nae_title = "A"\nsends_to = true\n',
            "sends_to and counts need host and port",
        ),
        ('[peers.pacs]\nhost = "h"\n', "peers.pacs.ae_title is missing"),
        (PEER.replace("ORTHANC", "CT*") + "sends_to = true\n", "needs a plain first ae_title"),
        (PEER + 'addresses = ["10.0.0.0/99"]\n', "peers.pacs.addresses"),
        ('[pipelines.x]\ndeliver_to = ["pacs"]\n', "'pacs', which is no peer with sends_to"),
        ('[pipelines.x]\nmatch = { modality = { like = "CT" } }\n', "none of absent, not, regex"),
        ('[pipelines.x]\nmatch = { modality = { regex = "(" } }\n', "is not a pattern"),
        ('[listen]\nae_titles = [{ title = "DICOMNODE" }]\n', "'DICOMNODE' is there twice"),
        ('[node]\nzone = "Mars/Base"\n', "is not a time zone"),
        (PEER + 'presents = ["seg"]\n', "a segmentation never goes alone"),
        ("[node\n", "not TOML"),
    ],
)
def test_a_fault_is_told_in_words(text: str, told: str) -> None:
    assert told in faults(text)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://example.org/hook", "wants an address such as 'https://example.org/hook'"),
        ("https:///hook", "wants an address such as"),
        ("https://example.org:0/hook", "wants an address such as"),
        ("https://example.org:99999/hook", "is no web address"),
        ("https://example.org:port/hook", "is no web address"),
        ("https://[::1/hook", "is no web address"),
        ("https://example..org/hook", "is no web address"),
        ("https://krankenhaus-süd.de/hook", "holds what no address does"),
        ("https://example.org/a b", "holds what no address does"),
    ],
)
def test_a_webhook_that_cannot_be_called_is_a_fault(url: str, told: str) -> None:
    assert told in faults(f'[notify.desk]\nurl = "{url}"\n')


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://[::1]:8443/hook?key=1"])
def test_a_webhook_may_stand_at_any_address(url: str) -> None:
    assert parse(f'[notify.desk]\nurl = "{url}"\n').notify["desk"].url == url


def test_a_webhook_asks_for_events_that_there_are() -> None:
    hook = '[notify.desk]\nurl = "https://example.org/hook"\nevents = '
    assert parse(hook + '["job.failed"]\n').notify["desk"].events == ("job.failed",)
    told = faults(hook + '["job.ended"]\n')
    assert "line 3: notify.desk.events.0 = 'job.ended'" in told
    assert "'job.failed', 'delivery.failed' or 'study.done'" in told


def test_every_fault_is_told_at_once() -> None:
    told = faults("[listen]\nport = 0\n[complete]\nquiet = 1\n[log]\nlevel = 3\n")
    assert [key in told for key in ("listen.port", "complete.quiet", "log.level")] == [True] * 3


def test_an_empty_file_is_a_laptop_that_admits_nobody() -> None:
    settings = parse("")
    assert settings == Settings()
    assert settings.peers == {}
    assert settings.complete.quiet_s == 60


def test_durations_sizes_and_shares_have_units() -> None:
    settings = parse(
        '[complete]\nquiet = "1.5min"\n[analyse]\nmemory = "500MB"\n[retention]\nfree = "2.5%"\n'
    )
    assert settings.complete.quiet_s == 90
    assert settings.analyse.memory == 500_000_000
    assert settings.retention.free == 0.025


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "dicomnode.toml"
    file.write_text('[node]\nstorage = "store"\n')
    settings = load(file)
    assert settings.node.storage == tmp_path / "store"
    assert settings.worklist.url == f"sqlite:///{tmp_path}/var/worklist.db"
    assert load(file, Path("/elsewhere")).node.storage == Path("/elsewhere/store")


def test_certificates_and_secrets_start_at_the_file_too(tmp_path: Path) -> None:
    tls = 'tls = { cert = "tls/node.pem", key = "/keys/node.key", ca = "ca.pem" }\n'
    file = tmp_path / "dicomnode.toml"
    file.write_text(
        f'[listen]\n{tls}[worklist]\npassword_file = "database.password"\n'
        f'{PEER}{tls}[notify.desk]\nurl = "http://desk/"\nsecret_file = "hook.key"\n',
        encoding="utf-8",
    )
    settings = load(file)
    for files in (settings.listen.tls, settings.peers["pacs"].tls):
        assert files is not None
        assert files.cert == tmp_path / "tls" / "node.pem"
        assert files.key == Path("/keys/node.key")
        assert files.ca == tmp_path / "ca.pem"
    assert settings.worklist.password_file == tmp_path / "database.password"
    assert settings.notify["desk"].secret_file == tmp_path / "hook.key"


def test_a_file_that_is_not_there_is_a_fault_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_results_go_to_every_peer_that_takes_them_unless_the_pipeline_names_some() -> None:
    text = PEER + "sends_to = true\n" + PEER.replace("pacs", "spare") + "sends_to = true\n"
    settings = parse(text + '[pipelines.lung-nodule]\ndeliver_to = ["spare"]\n')
    assert settings.targets("lung-nodule") == ("spare",)
    assert settings.targets("another") == ("pacs", "spare")


def test_the_commented_example_holds_every_default() -> None:
    assert parse(example()) == Settings()


def test_the_shipped_example_is_the_commented_one() -> None:
    shipped = Path(__file__).parents[2] / "deploy" / "dicomnode.example.toml"
    assert shipped.read_text(encoding="utf-8") == example()
