"""Names complete in the shell, and the shell gets to know it once."""

import os
import shutil
import subprocess

import pytest

from ropext.converter.checkpoint.families import FAMILIES
from ropext.converter.cli.app import main
from ropext.converter.methods.schemas import METHODS


def completed(words, incomplete):
    from click.shell_completion import ShellComplete

    complete = ShellComplete(main, {}, "ropext", "_ROPEXT_COMPLETE")
    return [(each.type, each.value) for each in complete.get_completions(words, incomplete)]


def test_commands_and_their_options():
    assert ("plain", "convert") in completed([], "con")
    assert ("plain", "passkey") in completed(["eval"], "pa")
    assert ("plain", "--json") in completed(["verify"], "--j")


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "model", "-p"],
        ["demo", "--preset"],
        ["eval", "ppl", "model", "--preset"],
        ["report", "results", "-p"],
        ["gguf-patch", "a", "b", "-p"],
        ["validate"],
        ["presets", "show"],
    ],
)
def test_presets(words):
    assert completed(words, "smollm2-135m-re") == [("plain", "smollm2-135m-rerope")]


@pytest.mark.parametrize("words", [["validate"], ["convert", "model", "-p"]])
def test_files_where_no_preset_begins_so(words):
    assert completed(words, "./my") == [("file", "./my")]


@pytest.mark.parametrize(
    "words", [["schema"], ["suggest", "model", "-m"], ["convert", "model", "--method"], ["presets", "list", "-m"]]
)
def test_methods(words):
    assert [value for _, value in completed(words, "")] == sorted(METHODS)
    assert completed(words, "self_") == [("plain", "self_extend")]


def test_families():
    assert completed(["families"], "qwen3_v") == [
        ("plain", name) for name in sorted(FAMILIES) if name.startswith("qwen3_v")
    ]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZDOTDIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("shell", "script", "startup"),
    [
        ("bash", ".local/share/ropext/completion.bash", ".bashrc"),
        ("zsh", ".local/share/ropext/completion.zsh", ".zshrc"),
        ("fish", ".config/fish/completions/ropext.fish", None),
    ],
)
def test_installing_twice_is_installing_once(run, home, monkeypatch, shell, script, startup):
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    if startup:
        (home / startup).write_text("alias x=y")
    text = run("--install-completion").stdout
    first = {file: file.read_text() for file in home.rglob("*") if file.is_file()}
    assert text.index(f"writes {home / script}") < text.index("Done")
    assert "_ROPEXT_COMPLETE" in first[home / script]
    if startup:
        assert f"adds one line to {home / startup}" in text
        assert first[home / startup].startswith("alias x=y\n")
        assert first[home / startup].count(str(home / script)) == 2  # whether it is there, and reading it
    run("--install-completion")
    assert {file: file.read_text() for file in home.rglob("*") if file.is_file()} == first


@pytest.mark.parametrize("shell", ["", "/bin/tcsh"])
def test_another_shell_is_refused(run, home, monkeypatch, shell):
    monkeypatch.setenv("SHELL", shell)
    assert "bash, zsh and fish" in run("--install-completion", status=2).stderr
    assert not list(home.iterdir())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_reads_it(run, home, monkeypatch, shell):
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"no {shell} here")
    monkeypatch.setenv("SHELL", program)
    run("--install-completion")
    startup = home / f".{shell}rc"
    shown = "complete -p ropext" if shell == "bash" else "print ${_comps[ropext]}"
    done = subprocess.run(
        [program, "-c", f". {startup}; {shown}"], capture_output=True, text=True, env={**os.environ, "HOME": str(home)}
    )
    assert "_ropext_completion" in done.stdout, done.stderr
