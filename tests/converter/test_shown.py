"""What others wrote, as it is shown: on a terminal, in a table, in a card, in a message."""

import json
import shutil
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.errors import RopextError
from ropext.converter.hub import bounds, client
from ropext.converter.hub.errors import HubFailure, reading
from ropext.converter.text import in_markdown, masked

VALUE = {"preset": None, "length": 4096, "tokens": 4096, "seed": 0, "seconds": 1.0, "nll": 5.0, "counted": 10}
SETTINGS = {"task": "ppl", "source": "s", "seed": 0}
SHA, TOKEN = "a" * 40, "hf_SECRETSECRETSECRETSECRETSECRET12"


def report(tmp_path, *args, settings=(), value=()):
    if "html" in args:
        pytest.importorskip("matplotlib", reason="pip install matplotlib")
    lines = [{"settings": SETTINGS | dict(settings)}, {"key": "1", "value": VALUE | dict(value)}]
    file = tmp_path / "results.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return CliRunner().invoke(main, ["report", str(file), *map(str, args)])


# Results


@pytest.mark.parametrize("form", ["md", "csv", "html", "json"])
@pytest.mark.parametrize("where", ["source", "command", "machine", "preset"])
def test_no_control_character_of_a_result_is_shown(tmp_path, form, where):
    evil = "\x1b[31mred\x07\x9b"
    given = {"value": {"preset": evil}} if where == "preset" else {"settings": {where: evil}}
    ran = report(tmp_path, "--format", form, **given)
    assert ran.exit_code == 0, ran.output
    assert not {"\x1b", "\x07", "\x9b"} & set(ran.output)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "|x"])
def test_no_cell_is_a_formula(tmp_path, text):
    ran = report(tmp_path, "--format", "csv", settings={"source": text}, value={"preset": text})
    cells = [cell for line in ran.output.splitlines()[1:] for cell in line.split(",")]
    assert not [cell for cell in cells if cell.strip('"').lstrip()[:1] in ("=", "+", "@", "|")]
    assert not [cell for cell in cells if cell == text]


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({}, {"length": 10**400}),
        ({}, {"length": 0}),
        ({}, {"length": -1}),
        ({}, {"counted": 10**400}),
        ({}, {"counted": 0}),
        ({}, {"tokens": 10**30}),
        ({}, {"seed": 10**400}),
        ({}, {"seconds": -1.0}),
        ({}, {"seconds": 1e300}),
        ({}, {"nll": float("nan")}),
        ({}, {"nll": -1.0}),
        ({}, {"nll": "5"}),
        ({}, {"preset": 5}),
        ({"task": ["ppl"]}, {}),
        ({"task": {"ppl": 1}}, {}),
        ({"task": None}, {}),
    ],
)
@pytest.mark.parametrize("form", ["md", "html"])
def test_a_result_out_of_range_is_one_message(tmp_path, settings, value, form):
    ran = report(tmp_path, "--format", form, settings=settings, value=value)
    assert ran.exit_code == 1
    lines = ran.stderr.splitlines()
    assert len(lines) == 1
    assert "results.jsonl" in lines[0]
    assert "a fault of ropext" not in lines[0]


@pytest.mark.parametrize("preset", ["\ud800", "a\nb", "$\\frac{", "x" * 5000])
@pytest.mark.parametrize("form", ["md", "csv", "html", "json"])
def test_odd_names_are_shown(tmp_path, preset, form):
    ran = report(tmp_path, "--format", form, value={"preset": preset})
    assert ran.exit_code == 0, ran.output


# Cards


def test_markdown_of_others_stays_text():
    text = "a\n# b `c` [d](javascript:e) | <f> *g* _h_"
    assert in_markdown(text) == r"a \# b \`c\` \[d\](javascript:e) \| \<f\> \*g\* \_h\_"


def test_a_card_holds_no_markup_of_others(tmp_path, tiny_llama):
    base = tmp_path / "ev`il\n# H | x"
    shutil.copytree(tiny_llama, base)
    preset = tmp_path / "p.yaml"
    preset.write_text(
        "name: tiny\ndescription: tiny\nbase_model: x/y\ninitial_window: 64\ntarget_window: 256\nmethod: linear\n"
        "references: ['[a](javascript:alert(1)) | x', 'https://arxiv.org/abs/2104.09864']\nparameters: {}\n"
    )
    out = tmp_path / "out"
    ran = CliRunner().invoke(main, ["convert", str(base), "--preset", str(preset), "-o", str(out), "-q"])
    assert ran.exit_code == 0, ran.output
    lines = (out / "README.md").read_text().splitlines()
    assert not [line for line in lines if line.startswith("# H")]
    assert not [line for line in lines if line.startswith("|") and ") | x |" in line]
    assert any("https://arxiv.org/abs/2104.09864" in line for line in lines if line.startswith("|"))


# Tokens, and a Hub's answers


@pytest.mark.parametrize(
    "text",
    [
        f"bad token Bearer {TOKEN}",
        f"Authorization: bearer {TOKEN} was refused",
        f"https://me:{TOKEN}@huggingface.co/x",
        "Basic dXNlcjpwYXNzd29yZA==",
        "https://user:passw0rd@proxy:3128/",
        "my own secret",
    ],
)
def test_tokens_are_masked(text, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "my own secret")
    shown = masked(text)
    assert "***" in shown
    assert not [each for each in (TOKEN, "dXNlcjpwYXNz", "passw0rd", "own secret") if each in shown]


def test_a_token_that_an_error_names_is_masked():
    with pytest.raises(HubFailure) as failure, reading("org/x", None):
        raise ValueError(f"bad token {TOKEN}")
    assert TOKEN not in str(failure.value)


class Answer:
    """What the client makes of a Hub's answer."""

    def __init__(self, **values):
        self.__dict__ = {"sha": SHA, "private": False, "gated": False, "card_data": None} | values


def entry(**values):
    from huggingface_hub.hf_api import RepoFile

    return RepoFile(**{"path": "config.json", "size": 10, "oid": "b" * 40} | values)


@pytest.mark.parametrize(
    ("answer", "entries"),
    [
        ({"sha": 5}, []),
        ({"sha": "../../x"}, []),
        ({"sha": "main"}, []),
        ({"sha": "A" * 40}, []),
        ({"sha": None}, []),
        ({"card_data": 5}, []),
        ({}, [{"path": "../../x.json"}]),
        ({}, [{"path": "/etc/passwd"}]),
        ({}, [{"path": "..\\x"}]),
        ({}, [{"path": 5}]),
        ({}, [{"size": "x"}]),
        ({}, [{"size": -1}]),
        ({}, [{"size": 1 << 60}]),
        ({}, [{"oid": None}]),
        ({}, [{"oid": "b" * 39}]),
        ({}, [{"lfs": {"size": 1, "oid": "x", "pointerSize": 1}}]),
    ],
)
def test_an_answer_that_makes_no_sense_is_one_message(monkeypatch, answer, entries):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **given: Answer(**answer))
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda *args, **given: [entry(**e) for e in entries])
    with pytest.raises(HubFailure, match="the Hub's answer makes no sense"):
        client.look_up("org/x")


def test_an_answer_that_makes_sense(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **given: Answer())
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda *args, **given: [entry()])
    assert client.look_up("org/x").files["config.json"].size == 10


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), KeyError("x"), AttributeError("x"), AssertionError("x"), RecursionError(), ValueError("x")],
)
def test_a_client_that_fails_on_an_answer_is_no_fault_of_ropext(error):
    with pytest.raises(RopextError, match="org/x: the Hub's answer makes no sense"), reading("org/x", None):
        raise error


@pytest.mark.parametrize(("waited", "said"), [(0, "does not end after 1 MiB"), (100, "does not end after 100 seconds")])
def test_a_body_that_does_not_end_is_given_up(monkeypatch, waited, said):
    clock = iter([0.0, *[float(waited)] * 9999])
    monkeypatch.setattr(bounds.time, "monotonic", lambda: next(clock))
    endless = (b"x" * (8 if waited else 1 << 12) for _ in range(9999))
    with pytest.raises(bounds.EndlessBody, match=said):
        sum(map(len, bounds._bounded(endless, 1 << 20)))


class Endless(BaseHTTPRequestHandler):
    """Answers with a body that has no length and no end."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b"x" * (1 << 14))

    def log_message(self, *said):
        pass


@pytest.mark.parametrize("path", ["/api/models/org/x", "/org/x/resolve/main/config.json"])
def test_the_client_gives_up_a_body_that_does_not_end(monkeypatch, path):
    """Whichever library the client stands on."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(bounds, "MOST_OF_AN_ANSWER", 1 << 20)
    monkeypatch.setattr(bounds, "MOST_WITHOUT_A_LENGTH", 1 << 20)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        with pytest.raises(HubFailure, match="does not end after 1 MiB"), reading("org/x", None):
            huggingface_hub.get_session().get(f"http://127.0.0.1:{server.server_port}{path}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_body_that_ends_is_whole():
    assert b"".join(bounds._bounded(iter([b"a", b"b"]), 2)) == b"ab"
