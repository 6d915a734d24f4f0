"""`ropext convert` as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ropext.converter.convert import write as writing
from ropext.converter.convert.api import convert_checkpoint, plan_conversion
from ropext.converter.convert.plan import Plan
from ropext.converter.convert.write import Result
from ropext.converter.presets.load import load_preset
from tests.helpers.checkpoints import edit_config, shard


def failure(run, *args, status=1):
    """Run a conversion that must fail, and return its one line."""
    before = sorted(os.listdir())
    result = run("convert", *args, status=status)
    assert sorted(os.listdir()) == before
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_whole_command_is_the_preset(run, tiny_llama, tiny_preset):
    result = run("convert", "--preset", tiny_preset)
    files = ["LICENSE.ropext", "README.md", "config.json", "configuration_llama_ext.py", "generation_config.json"]
    assert sorted(os.listdir("tiny-dpe"))[:5] == files
    assert "dpe, 64 → 256 tokens" in result.stdout
    assert "428.7 KiB linked" in result.stdout
    assert "from_pretrained(" in result.stdout
    assert result.stderr == ""


def test_json(run, tiny_llama, tiny_preset):
    report = json.loads(run("convert", tiny_llama, "--preset", tiny_preset, "--json", "-o", "out").stdout)
    assert report["output"] == os.path.abspath("out")
    assert report["bytes_linked"] == 439032
    assert {file["path"] for file in report["files"]} == set(os.listdir("out"))
    assert report["config_changes"][0]["key"] == "architectures"


def test_quiet(run, tiny_llama, tiny_preset):
    result = run("convert", "--preset", tiny_preset, "-q")
    assert result.output == ""


def test_dry_run(run, tiny_llama, tiny_preset):
    before = sorted(os.listdir())
    text = run("convert", "--preset", tiny_preset, "--dry-run").stdout
    assert sorted(os.listdir()) == before
    assert "link             439,032  model.safetensors" in text
    assert "428.7 KiB linked" in text
    assert "max_position_embeddings: 64 → 256" in text
    report = json.loads(run("convert", "--preset", tiny_preset, "--dry-run", "--json").stdout)
    assert report["bytes"]["link"] == 439032


def test_dry_run_says_what_the_run_does(run, tiny_llama, tiny_preset):
    planned = json.loads(run("convert", "--preset", tiny_preset, "--dry-run", "--json").stdout)
    done = json.loads(run("convert", "--preset", tiny_preset, "--json").stdout)
    sizes = {file["path"]: file["bytes"] for file in done["files"]}
    assert {file["path"] for file in planned["files"]} == set(sizes)
    assert all(sizes[file["path"]] == file["bytes"] for file in planned["files"] if file["bytes"] is not None)


def test_overrides(run, tiny_llama, tiny_preset):
    run("convert", "--preset", tiny_preset, "--set", "target_window=512", "--set", "local_window=32")
    block = json.loads(Path("tiny-dpe/config.json").read_text())["rope_ext"]
    assert (block["target_window"], block["parameters"]["local_window"]) == (512, 32)
    provenance = json.loads(Path("tiny-dpe/ropext.json").read_text())
    assert provenance["preset"]["overrides"] == ["target_window=512", "local_window=32"]


def test_force(run, tiny_llama, tiny_preset):
    run("convert", "--preset", tiny_preset)
    message = failure(run, "--preset", tiny_preset, status=2)
    assert message == ("error: tiny-dpe: is not empty; choose another --output, or replace what it holds with --force.")
    run("convert", "--preset", tiny_preset, "--force")
    assert sorted(os.listdir()) == ["tiny-dpe", "tiny-dpe.yaml", "tiny-llama"]


def test_dot_in_the_output_is_mentioned(run, tiny_llama, tiny_preset):
    assert "folder with a dot" in run("convert", "--preset", tiny_preset, "-o", "v1.0").stderr


def test_function(tiny_llama, tiny_preset, tmp_path):
    preset = load_preset(str(tiny_preset))
    plan = plan_conversion(preset, output=tmp_path / "out")
    assert isinstance(plan, Plan)
    assert not (tmp_path / "out").exists()
    result = convert_checkpoint(preset, str(tiny_llama), tmp_path / "out", link="copy")
    assert isinstance(result, Result)
    assert result.methods["copy"] == 2


# By a method


def test_any_model_by_a_method_and_a_length(run, tiny_llama):
    result = run("convert", "tiny-llama", "--method", "yarn", "--target", "1k", "--set", "attention_factor=1.5")
    assert result.stdout.startswith("# tiny-llama-yarn-1k, kept in ropext.json\nname: tiny-llama-yarn-1k\n")
    assert "yarn, 64 → 1,024 tokens" in result.stdout
    block = json.loads(Path("tiny-llama-yarn-1k/config.json").read_text())["rope_ext"]
    assert block["parameters"]["attention_factor"] == 1.5
    run("verify", "tiny-llama-yarn-1k", "--quick", status=3)
    report = json.loads(run("convert", "tiny-llama", "--method", "yarn", "--target", "1k", "--json", "-o", "b").stdout)
    assert report["preset"] == "tiny-llama-yarn-1k"


def test_a_method_is_no_preset(run, tiny_llama):
    message = failure(run, "tiny-llama", "--preset", "yarn", status=2)
    assert message.startswith(
        "error: yarn is a method, not a preset; presets with it: gpt-oss-yarn, llama2-7b-yarn-16k, "
    )
    assert message.endswith("; for any model: ropext convert SOURCE --method yarn --target 128k")


def test_a_trained_length_in_doubt_is_said(run, tiny_llama):
    edit_config(tiny_llama, rope_scaling={"rope_type": "linear", "factor": 2.0})
    result = run("convert", "tiny-llama", "--method", "ntk", "--target", "1k")
    assert "note: taken as trained to 128 tokens (max_position_embeddings is 64, and a linear factor" in result.stderr
    assert "--initial-window 64" in result.stderr


@pytest.mark.parametrize("length", ["0", "-1", "64kb", "4.5k", "many", ""])
def test_one_message_for_what_is_no_length(run, tiny_llama, tiny_preset, length):
    message = f"{length!r} is no number of tokens; write it as 65536 or 64k"
    assert message in run("convert", "tiny-llama", "--method", "yarn", f"--target={length}", status=2).stderr
    if length:
        wanted = f"--set target_window: {length if length in ('0', '-1') else repr(length)} is no number of tokens"
        assert wanted in failure(run, "--preset", tiny_preset, "--set", f"target_window={length}", status=2)


def test_lengths_may_be_written_in_overrides(run, tiny_llama, tiny_preset):
    run("convert", "--preset", tiny_preset, "--set", "target_window=1k")
    assert json.loads(Path("tiny-dpe/config.json").read_text())["rope_ext"]["target_window"] == 1024
    run("verify", "tiny-dpe", "--quick", status=3)


# What goes wrong


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder, and it is no Hub id (`organisation/name`)."),
        (["--revision", "main"], "is a local folder, so --revision main does not apply to it."),
        (["-o", "tiny-llama/x"], "the output may not be the source"),
        (["-o", "."], "the output may not be the current folder or hold it"),
        (["-o", "tiny-dpe.yaml"], "is a file; name a folder."),
        (["--set", "nonsense=1"], "nonsense"),
    ],
)
def test_one_message_for_bad_arguments(run, tiny_llama, tiny_preset, args, message):
    assert message in failure(run, "--preset", tiny_preset, *args, status=2)


def test_unknown_preset(run):
    assert "unknown preset 'llama3-8b-dpee'" in failure(run, "--preset", "llama3-8b-dpee", status=2)


def test_preset_that_does_not_fit(run, tiny_llama, tiny_preset):
    edit_config(tiny_llama, rope_theta=500000.0)
    assert "requires.rope_theta: is 10000, but" in failure(run, "--preset", tiny_preset, status=2)


def test_source_that_is_cut_off(run, tiny_llama, tiny_preset):
    os.truncate(tiny_llama / "model.safetensors", 1000)
    assert "cut off: 1000 bytes" in failure(run, "--preset", tiny_preset)


def test_converted_source(run, tiny_llama, tiny_preset):
    run("convert", "--preset", tiny_preset)
    message = failure(run, "tiny-dpe", "--preset", tiny_preset, "-o", "again")
    assert message == "error: tiny-dpe: has been converted by ropext already; convert its base model instead."


def test_an_empty_source_is_not_the_presets_base(run, tiny_llama, tiny_preset, tmp_path):
    result = run("convert", "", "--preset", tiny_preset, status=2)
    assert "'': there is no such folder" in result.stderr
    assert not (tmp_path / "tiny-dpe").exists()


def test_scaled_base(run, tiny_llama, tiny_preset):
    edit_config(tiny_llama, rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    assert "'dynamic' cannot be composed" in failure(run, "--preset", tiny_preset)


def test_offline(run, tiny_preset, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert "HF_HUB_OFFLINE is set" in failure(run, "org/name", "--preset", tiny_preset)


def test_output_is_checked_before_anything_is_downloaded(run, tiny_preset):
    os.mkdir("full")
    Path("full/x").touch()
    assert "is not empty" in failure(run, "org/name", "--preset", tiny_preset, "-o", "full", status=2)


def test_interrupt(run, tiny_llama, tiny_preset, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_copy", interrupt)
    assert failure(run, "--preset", tiny_preset, status=130).startswith("interrupted: nothing unfinished is left")


# What it costs


def test_weights_are_not_read(run, tiny_llama, tiny_preset):
    """Four sparse gibibytes in four shards: linked, or this would fill the disk."""
    shard(tiny_llama, count=4, bytes_each=1 << 29)
    if not _can_link(tiny_llama):
        pytest.skip("this file system has no links")
    report = json.loads(run("convert", "--preset", tiny_preset, "--json").stdout)
    assert report["bytes_linked"] > 4 << 30
    assert report["bytes_moved"] < 1 << 20
    assert not any(file["sha256"] for file in report["files"] if file["path"].endswith(".safetensors"))


def _can_link(folder):
    try:
        os.link(folder / "config.json", folder / "probe")
    except OSError:
        return False
    os.unlink(folder / "probe")
    return True


def test_neither_torch_nor_the_hub_client_is_imported(tiny_llama, tiny_preset, tmp_path):
    program = (
        "import sys; from ropext.converter.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*(name for name in ('torch', 'transformers', 'huggingface_hub')"
        " if name in sys.modules), file=sys.stderr)"
    )
    command = ["convert", str(tiny_llama), "--preset", str(tiny_preset), "-o", str(tmp_path / "out"), "-q"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
