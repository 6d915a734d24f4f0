"""Prompts whose answers are known, and how well a model that changes its method in place knows them."""

import errno
import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import InvalidPreset, RopextError, UsageError
from ropext.converter.evaluation.asking import Answer, Prompt, Question
from ropext.converter.evaluation.run import records
from ropext.converter.evaluation.run.judge import Judge
from ropext.converter.evaluation.run.records import Records
from ropext.converter.evaluation.run.shares import ALONE, Share, launched_share
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks.needles import NEEDLE, needle_prompt
from ropext.converter.evaluation.tasks.texts import load_text
from ropext.converter.presets.load import make_preset
from tests.helpers import tiny, zoo
from tests.helpers.asked import tokenizer, with_tokenizer

PARAMETERS = {
    "dca": {"chunk_size": 48, "local_window": 8},
    "dpe": tiny.DPE,
    "dprope": {},
    "dynamic_ntk": {},
    "gali": {"chunk_size": 24, "local_window": 8},
    "jet_long": {"window": 48, "local_window": 16},
    "linear": {},
    "original": {},
    "rerope": {"local_window": 20},
    "self_extend": {"group_size": 8, "local_window": 16},
    "yarn": {},
}


def preset(method, **changes):
    keys = {"name": method, "description": method, "base_model": "tiny", "initial_window": 64, "target_window": 256}
    return make_preset({**keys, "method": method, "parameters": PARAMETERS[method], **changes})


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


# Texts and needles


def test_the_halves_of_a_text_share_no_sentence():
    text = load_text()
    first, second = text.half(0), text.half(1)
    assert len(first.sentences) > 500 < len(second.sentences)
    assert not set(first.sentences) & set(second.sentences)
    assert len({text.sha256, first.sha256, second.sha256}) == 3


def test_texts_of_files_and_folders(tmp_path):
    prose = [
        f"Sentence {n} of a paragraph that is long enough to count as prose in every respect. And more of {n}."
        for n in range(60)
    ]
    (tmp_path / "a.txt").write_text("A heading\n\n" + "\n\n".join(prose[:30]))
    (tmp_path / "b.md").write_text("\n\n".join(prose[20:]) + "\n\n- a list\n")
    (tmp_path / "c.bin").write_bytes(b"\xff")
    text = load_text([tmp_path])
    assert (text.name, len(text.sentences)) == (tmp_path.name, 120)  # what both hold counts once
    files = load_text([tmp_path / "a.txt", tmp_path / "b.md"])
    assert (files.name, files.sentences) == ("a.txt, b.md", text.sentences)
    with pytest.raises(UsageError, match="not UTF-8"):
        load_text([tmp_path / "c.bin"])
    with pytest.raises(UsageError, match="sentences of prose"):
        load_text([tmp_path / "a.txt"])


@pytest.mark.parametrize("length", [1500, 6000])
def test_needles_stand_at_their_depths_and_have_one_answer_each(length):
    words = tokenizer()
    prompt = needle_prompt(words, load_text(), length, [0.0, 0.3, 0.95], seed=1)
    text = words.decode(prompt.input_ids)
    longest = max(len(each.input_ids) + len(each.answer_ids) for each in prompt.questions)
    assert length - 400 < len(prompt.input_ids) + longest <= length  # to within a sentence
    for question in prompt.questions:
        asked = words.decode(question.input_ids)
        key = asked.split(" for ")[1].split(" mentioned")[0]
        needle = NEEDLE.format(key=key, value=question.answer)
        assert text.count(needle) == 1
        assert len(words.decode(prompt.input_ids[len(prompt.input_ids) - question.distance :])) == len(
            text.split(needle)[1].lstrip()
        )
        assert asked.endswith("is")
        assert words.decode(question.answer_ids) == f" {question.answer}"
        assert 1 - question.distance / len(text) == pytest.approx(question.depth, abs=0.25 if length == 1500 else 0.06)


def test_prompts_are_the_same_for_the_same_seed_only():
    words, text = tokenizer(), load_text()
    one, same, other = (needle_prompt(words, text, 1500, [0.5], seed) for seed in (1, 1, 2))
    assert one == same != other
    assert one.questions[0].answer != other.questions[0].answer


def test_a_length_without_room_for_prose_is_refused():
    with pytest.raises(UsageError, match="leave no room for prose and 3 needles"):
        needle_prompt(tokenizer(), load_text(), 300, [0.1, 0.5, 0.9], seed=0)


# Models


def text_of(length, questions=1):
    ids = tiny.tokens(length + 12 * questions)[0].tolist()
    parts = [ids[length + 12 * n : length + 12 * (n + 1)] for n in range(questions)]
    asked = tuple(Question(tuple(part[:8]), tuple(part[8:]), "", 0.0, 0) for part in parts)
    return Prompt(tuple(ids[:length]), asked, length, 0)


@pytest.mark.parametrize("method", PARAMETERS)
def test_a_method_taken_in_place_is_the_converted_model(method, folder, tmp_path, no_grad):
    model = SwitchableModel(folder)
    ids = tiny.tokens(150)
    before = model.model(ids).logits
    for other in ("gali", "yarn", method):  # whatever it was before
        model.use(preset(other))
    convert_checkpoint(preset(method), str(folder), tmp_path / "out")
    converted, _ = tiny.from_folder(tmp_path / "out")
    assert torch.equal(model.model(ids).logits, converted(ids).logits)
    model.use(None)
    assert torch.equal(model.model(ids).logits, before)
    assert torch.equal(before, tiny.base()(ids).logits)


@pytest.mark.parametrize("family", ["falcon_h1", "qwen3_next", "lfm2", "jamba"])
def test_layers_that_keep_states_are_asked_each_question_alone(family, tmp_path, no_grad):
    stock = zoo.build(family)
    stock.generation_config.eos_token_id = 2
    stock.save_pretrained(tmp_path)
    model, prompt = SwitchableModel(with_tokenizer(tmp_path)), text_of(60, questions=2)
    for question, answer in zip(prompt.questions, model.answers(prompt), strict=True):
        ids = torch.tensor([[*prompt.input_ids, *question.input_ids, *question.answer_ids]])
        count = len(question.answer_ids)
        chances = stock(ids).logits[0, -count - 1 : -1].log_softmax(-1)
        whole = float(chances.gather(1, ids[0, -count:, None]).sum())
        assert answer.log_probability == pytest.approx(whole, abs=1e-3)


def test_a_method_is_taken_in_place_where_weights_are_on_several_devices(folder, monkeypatch, no_grad):
    pytest.importorskip("accelerate")
    whole = SwitchableModel(folder)
    parts = ["model.embed_tokens", "model.norm", "model.rotary_emb", "model.layers.0", "lm_head"]
    places = dict.fromkeys(parts, "cpu") | dict.fromkeys(["model.layers.1", "model.layers.2"], "disk")
    monkeypatch.setattr("ropext.converter.evaluation.run.transformers_model.device_of", lambda name: places)
    spread = SwitchableModel(folder, dtype="float32")
    assert hasattr(spread.model.model.layers[1].self_attn, "_hf_hook")
    for name in ("dpe", "yarn", "gali", None):
        for model in (whole, spread):
            model.use(preset(name) if name else None)
        assert torch.equal(*(model.model(tiny.tokens(150)).logits for model in (whole, spread)))


@pytest.mark.parametrize("method", ["dpe", "gali", "yarn", "original"])
def test_answers_are_those_to_each_question_alone(method, folder, no_grad):
    model, prompt = SwitchableModel(folder), text_of(120, questions=3)
    model.use(preset(method))
    together = model.answers(prompt)
    for question, answer in zip(prompt.questions, together, strict=True):
        assert model.answers(replace(prompt, questions=(question,))) == [answer]


@pytest.mark.parametrize("method", ["dpe", "self_extend", "linear", "original"])
def test_answers_are_log_probabilities_and_what_is_generated(method, folder, no_grad):
    model, prompt = SwitchableModel(folder), text_of(120)
    model.use(preset(method))
    (question,) = prompt.questions
    ids = torch.tensor([[*prompt.input_ids, *question.input_ids]])
    generated = tiny.generate(model.model, ids, max_new_tokens=4, eos_token_id=None)[0]
    right = replace(question, answer_ids=tuple(generated.tolist()))
    wrong, known = model.answers(replace(prompt, questions=(question, right)))
    assert known.exact
    assert not wrong.exact
    whole = torch.cat([ids, torch.tensor([question.answer_ids])], dim=1)
    chances = model.model(whole).logits[0].log_softmax(-1)
    expected = sum(chances[ids.shape[1] - 1 + n, token] for n, token in enumerate(question.answer_ids))
    assert wrong.log_probability == pytest.approx(float(expected), abs=1e-4)


def test_a_preset_that_does_not_fit_is_refused(folder):
    with pytest.raises(InvalidPreset, match="head_dim"):
        SwitchableModel(folder).use(preset("dpe", requires={"head_dim": 32}))


def test_what_cannot_be_loaded_is_said(folder):
    for how, message in [({"device": "gpu"}, "--device gpu"), ({"dtype": "int8"}, "--dtype int8")]:
        with pytest.raises(UsageError, match=message):
            SwitchableModel(folder, **how)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForSequenceClassification"]}))
    with pytest.raises(UsageError, match="answers no questions"):
        SwitchableModel(folder)


# What was measured


def test_measurements_are_kept_as_they_come(tmp_path):
    file = tmp_path / "deep" / "measured.jsonl"
    records = Records(file, {"seed": 0}, resume=False)
    records.put("a", [1.5])
    assert json.loads(file.read_text().splitlines()[1]) == {"key": "a", "value": [1.5]}  # before it is closed
    records.put("b", None)
    records.close()
    with file.open("a") as stream:
        stream.write('{"key": "c", "val')  # killed while it wrote
    again = Records(file, {"seed": 0}, resume=True)
    assert (again.get("a"), again.get("c")) == ([1.5], None)
    again.put("c", 3)
    again.close()
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()[1:]] == ["a", "b", "c"]


def test_measurements_of_other_settings_are_not_mixed(tmp_path):
    file = tmp_path / "measured.jsonl"
    with closing(Records(file, {"seed": 0, "text": "x"}, resume=True)) as records:
        records.put("a", 1)
    with pytest.raises(UsageError, match="--resume"):
        Records(file, {"seed": 0, "text": "x"}, resume=False)
    with pytest.raises(UsageError, match=r"seed \(0 then, 1 now\)"):
        Records(file, {"seed": 1, "text": "x"}, resume=True)
    Records(file, {"seed": 0, "text": "x", "chat": None}, resume=True).close()  # as if it were not there
    with pytest.raises(UsageError, match=r"chat \(None then, True now\)"):
        Records(file, {"seed": 0, "text": "x", "chat": True}, resume=True)
    file.write_text("no json\n")
    with pytest.raises(RopextError, match="not a file of measurements"):
        Records(file, {}, resume=True)


def test_another_model_of_one_name_is_not_gone_on_with(run, folder):
    asked = ["eval", "passkey", folder, "--depths", 1, "-l", 600]
    run(*asked)
    run(*asked, "--resume")
    weights = load_file(folder / "model.safetensors")
    save_file({name: each + 1 for name, each in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    refused = run(*asked, "--resume", status=2).stderr
    assert "another model of this name was measured, or by another number type" in " ".join(refused.split())


def test_other_texts_are_not_gone_on_with(run, folder):
    asked = ["eval", "passkey", folder, "--depths", 1, "-l", 600, "--no-short"]
    run(*asked)
    vocabulary = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(vocabulary.replace('"a": ', '"\u00e9": '))
    refused = run(*asked, "--resume", status=2).stderr
    assert "was measured on other texts than are made now" in " ".join(refused.split())


@pytest.mark.parametrize("alone", [False, True])
def test_two_runs_do_not_write_one_file(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_PATIENCE", 0)
    file = tmp_path / "measured.jsonl"
    with closing(Records(file, {}, resume=False, share=ALONE if alone else Share(0, 2))) as first:
        first.put("a", 1)
        with pytest.raises(UsageError, match="another run is writing it"):
            Records(file, {}, resume=True)
        if not alone:  # the same of the same several
            same = Records(file, {}, resume=True, share=Share(0, 2))
            with closing(same), pytest.raises(UsageError, match=r"measured.part0.jsonl: another run"):
                same.put("b", 2)
        first.put("c", 3)
        assert first.merge(["a", "c"])
    assert [key for key, _ in kept(file)] == ["a", "c"]


def test_a_run_that_measured_nothing_is_in_nobodys_way(tmp_path):
    file = tmp_path / "measured.jsonl"
    Records(file, {"seed": 0}, resume=False).close()
    with closing(Records(file, {"seed": 1}, resume=False)) as again:
        again.put("a", 1)
    assert json.loads(file.read_text().splitlines()[0])["settings"]["seed"] == 1
    assert kept(file) == [("a", 1)]
    for content in (file.read_text(), "a file of one's own\n", '{"settings": {"seed"'):
        file.write_text(content)
        with pytest.raises(UsageError, match="exists: go on with it by --resume, or remove it"):
            Records(file, {"seed": 1}, resume=False)
        assert file.read_text() == content


def kept(file):
    first, *rest = map(json.loads, file.read_text().splitlines())
    assert "settings" in first
    return [(line["key"], line["value"]) for line in rest]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_several_processes_have_as_much_to_read(count):
    work = [(preset, length) for preset in range(12) for length in (4, 8, 12, 16)]
    parts = [Share(rank, count).of(work) for rank in range(count)]
    assert sorted(each for part in parts for each in part) == work
    tokens = [sum(length for _, length in part) for part in parts]
    assert max(tokens) <= 1.25 * min(tokens)


def test_the_last_of_several_processes_puts_their_parts_together(tmp_path):
    file, keys = tmp_path / "measured.jsonl", list("abcde")
    shares = [Records(file, {"seed": 0}, resume=False, share=Share(rank, 3)) for rank in range(3)]
    for rank, share in enumerate(shares):
        for key in Share(rank, 3).of(keys):
            share.put(key, f"{key} by {rank}")
    assert sorted(path.name for path in tmp_path.glob("*.part*")) == [f"measured.part{rank}.jsonl" for rank in range(3)]
    assert [share.merge(keys) for share in (shares[1], shares[0], shares[2])] == [False, False, True]
    for share in shares:
        share.close()
    assert kept(file) == [("a", "a by 0"), ("b", "b by 1"), ("c", "c by 2"), ("d", "d by 2"), ("e", "e by 1")]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_left_of_several_processes_is_gone_on_with_by_any_number(count, tmp_path):
    file, keys = tmp_path / "measured.jsonl", list("abcdef")
    with closing(Records(file, {"seed": 0}, resume=False, share=Share(1, 3))) as killed:
        killed.put("b", "before")
        killed.put("e", "before")
    with (tmp_path / "measured.part2.jsonl").open("w") as torn:
        torn.write('{"settings": {"seed": 0}}\n{"key": "c", "value": "before"}\n{"key": "f", "val')
    with pytest.raises(UsageError, match=r"part\d.jsonl exists: go on with it by --resume"):
        Records(file, {"seed": 0}, resume=False)
    for rank in range(count):
        with closing(Records(file, {"seed": 0}, resume=True, share=Share(rank, count))) as going_on:
            for key in Share(rank, count).of(keys):
                if going_on.get(key) is None:
                    going_on.put(key, "now")
            assert going_on.merge(keys) == (rank == count - 1)
    assert kept(file) == [(key, "before" if key in "bce" else "now") for key in keys]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_the_disk_does_not_take_is_said_with_what_to_do(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(Records(tmp_path / "measured.jsonl", {}, resume=False)) as written:
        monkeypatch.setattr(records.os, "fsync", full)
        with pytest.raises(RopextError, match=r"measured.jsonl: No space left on device; .* --resume"):
            written.put("a", 1)


def test_the_environment_says_which_process_this_is(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched_share() == ALONE
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    share = launched_share()
    assert share == Share(3, 4, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [share.device("auto"), share.device("cpu"), ALONE.device("auto")] == ["cuda:1", "cpu", "auto"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="RANK=3, WORLD_SIZE=2"):
        launched_share()


class Pretender:
    """A model of which it is known how it answers."""

    def __init__(self):
        self.asked = []

    def use(self, preset):
        self.method = preset.method if preset else "base"

    def answers(self, prompt):
        self.asked.append((self.method, prompt.seed))
        return [Answer(-(prompt.seed + 1.0) * (2 if self.method == "base" else 1), self.method != "base")] * 2


def test_a_judge_asks_nothing_twice_and_compares_what_both_were_asked(tmp_path):
    records, model = Records(tmp_path / "measured.jsonl", {}, resume=False), Pretender()
    judge = Judge(model, [replace(text_of(9, questions=2), seed=seed) for seed in range(3)], records)
    for prompt in (0, 1, 0):
        judge.scores(preset("yarn"), prompt)
    for prompt in (1, 2):
        judge.scores(None, prompt)
    assert model.asked == [("yarn", 0), ("yarn", 1), ("base", 1), ("base", 2)]
    verdict = judge.verdict(preset("yarn"), None)
    assert (verdict.score, verdict.exact, verdict.questions, verdict.prompts) == (-1.5, 1.0, 4, 2)
    assert (verdict.ahead, verdict.error) == (2.0, 0.0)  # on the one prompt that the base was asked too
    assert judge.verdict(None, preset("rerope")).error is None
    records.close()
