"""`ropext eval attention`: maps against a dense computation of every logit, and what becomes of them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ropext.converter.cli.app import main
from ropext.converter.convert.api import convert_checkpoint
from ropext.converter.errors import UsageError
from ropext.converter.evaluation.report.attention import FAR, far_share
from ropext.converter.evaluation.run import attention_maps
from ropext.converter.evaluation.run.attention_maps import borders, summed_by_distance
from ropext.converter.evaluation.run.transformers_model import SwitchableModel
from ropext.converter.evaluation.tasks.attention import indices
from ropext.modeling.rope_ext_method import Method
from tests.helpers import tiny
from tests.helpers.asked import with_tokenizer
from tests.reference import stock
from tests.reference.regions import regions

from .test_evaluation import PARAMETERS, preset

LENGTH, CELLS = 150, 11
PRESET = (
    "name: tiny\ndescription: d\nbase_model: b\ninitial_window: 64\ntarget_window: 256\nmethod: dpe\n"
    "parameters: {local_window: 16, scale_factors: [2, 8, 4, 16], dimension_groups: [0, 2, 4, 6, 8]}\n"
)


@pytest.fixture
def folder(tiny_llama):
    return with_tokenizer(tiny_llama)


@pytest.fixture
def few_at_once(monkeypatch):
    """Seven queries of the tiny model at a time; the largest matrix of logits is kept in the list."""
    monkeypatch.setattr(attention_maps, "MOST_LOGITS", 7 * 4 * LENGTH)
    sizes = []
    bounded = Method.bounded_logits

    def noted(method, tokens):
        logits = bounded(method, tokens)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(Method, "bounded_logits", noted)
    return sizes


class Dense(stock.Oracle):
    """The oracle, which keeps what it computes."""

    def __init__(self, model, method):
        super().__init__(stock.decoder_of(model), method, [LENGTH] * LENGTH, local_layers=False)
        self.logits, self.weights = [], []

    def attention(self, module, query, key, value, *args, scaling=None, **kwargs):
        out, weights = super().attention(module, query, key, value, *args, scaling=scaling, **kwargs)
        if not self.capturing:
            self.logits.append(self.products(module, module)[0] * scaling)
            self.weights.append(weights[0].double())
        return out, weights


def dense(name, ids):
    """[layers, H, T, T] logits and weights of a method, or of the base, as its definition in float64 says."""
    case = tiny.CASES[name]
    base = tiny.base("eager", torch.float64)
    oracle = Dense(base, lambda setting: regions(case, setting))
    with oracle.in_place(), torch.no_grad():
        base(ids, use_cache=False)
    return torch.stack(oracle.logits), torch.stack(oracle.weights)


def naive(values, layers, heads):
    """Cells and means by distance, pair by pair."""
    mean = np.asarray(values[layers][:, heads].mean((0, 1)))
    cells, by_distance = {}, {}
    for i in range(LENGTH):
        for j in range(i + 1):
            cells.setdefault((i * CELLS // LENGTH, j * CELLS // LENGTH), []).append(mean[i, j])
            if j:
                by_distance.setdefault(i - j, []).append(mean[i, j])
    triangle = [[np.mean(cells[row, column]) for column in range(row + 1)] for row in range(CELLS)]
    ends = [*borders(LENGTH)[1:], LENGTH]
    bands = [
        np.mean([each for d in range(a, b) for each in by_distance.get(d, ())])
        for a, b in zip(borders(LENGTH), ends, strict=True)
    ]
    return triangle, bands, mean[:, 0].mean()


@pytest.mark.parametrize(
    "name", ["original", "dpe", "dpe_top_k", "bands", "dca_temperature", "gali", "gali_grid", "jet_long", "yarn"]
)
def test_maps_are_the_means_of_a_dense_computation(name, folder, few_at_once, no_grad):
    ids = tiny.tokens(LENGTH)
    model = SwitchableModel(folder)
    model.model = tiny.converted(name)
    model._config = model.model.config.to_dict()
    found = model.attention(ids[0].tolist(), CELLS, [0, 2], [1, 2, 3])
    for what, values in zip(("logits", "weights"), dense(name, ids), strict=True):
        triangle, bands, first = naive(values, [0, 2], [1, 2, 3])
        scale = 1 if what == "logits" else 0.02
        for row, expected in zip(found[what], triangle, strict=True):
            np.testing.assert_allclose(row, expected, atol=2e-4 * scale, rtol=2e-3)
        np.testing.assert_allclose(found["distances"][what], bands, atol=2e-4 * scale, rtol=2e-3)
    assert found["first"] == pytest.approx(first, abs=1e-5)
    assert max(few_at_once) <= 7 * 4 * LENGTH
    assert len(few_at_once) == 2 * -(-LENGTH // 7)


@pytest.mark.parametrize("method", PARAMETERS)
def test_a_preset_and_its_conversion_look_the_same_way(method, folder, tmp_path, no_grad):
    ids = tiny.tokens(LENGTH)[0].tolist()
    model = SwitchableModel(folder)
    base = model.attention(ids, CELLS)
    model.use(preset(method))
    by_preset = model.attention(ids, CELLS)
    convert_checkpoint(preset(method), str(folder), tmp_path / "out")
    with_tokenizer(tmp_path / "out")
    assert SwitchableModel(tmp_path / "out").attention(ids, CELLS) == by_preset
    assert (by_preset == base) == (method == "original")
    model.use(None)
    assert model.attention(ids, CELLS) == base
    assert model.attention(ids[:30], CELLS)["weights"]


def test_a_watched_model_answers_as_before(folder, no_grad):
    model, ids = SwitchableModel(folder), tiny.tokens(LENGTH)
    before = model.model(ids).logits
    model.attention(ids[0].tolist(), CELLS)
    assert torch.equal(model.model(ids).logits, before)
    with pytest.raises(UsageError, match=r"--layers 3: methods act on layers 0, 1, 2"):
        model.attention(ids[0].tolist(), CELLS, [0, 3])
    with pytest.raises(UsageError, match="--heads 4: layer 0 has heads 0 to 3"):
        model.attention(ids[0].tolist(), CELLS, None, [4])
    assert torch.equal(model.model(ids).logits, before)


def test_sums_by_distance():
    values = torch.tensor([[1.0, 2.0, 4.0, 0.0], [8.0, 16.0, 32.0, 64.0]])  # of the queries in columns 2 and 3
    assert summed_by_distance(values).tolist() == [4 + 64, 2 + 32, 1 + 16, 8]


def test_bands_of_distances_reach_as_far_as_the_text():
    assert borders(2) == [0]
    assert borders(3) == [0, 1]
    assert [each for each in borders(5000) if each & (each - 1) == 0] == [0, *(2**n for n in range(13))]


def test_indices_are_read():
    assert indices("8-11, 0,4,9", "layers") == (0, 4, 8, 9, 10, 11)
    for wrong in ("", "a", "3-", "-3", "4-2", "0-99999", "1,,2"):
        with pytest.raises(UsageError, match=r"--heads .*: give indices from 0 on, such as 0,4,8-11"):
            indices(wrong, "heads")


def test_the_share_of_far_tokens():
    # Every query looks at each key with 0.01; the first token stands apart.
    tokens = FAR + 3
    begins = [*range(FAR + 2)]
    value = {"tokens": tokens, "distances": {"from": begins, "weights": [0.01] * len(begins)}}
    assert far_share(value) == pytest.approx(0.01 * (2 + 1) / tokens)
    assert far_share({**value, "tokens": FAR + 1}) is None


# The command


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_maps_are_measured_and_reported(folder, tmp_path, matplotlib):
    (tmp_path / "tiny.yaml").write_text(PRESET)
    how = ("--preset", tmp_path / "tiny.yaml", "--lengths", "1100", "--cells", 16, "-o", tmp_path / "out")
    done = run("eval", "attention", folder, *how)
    assert done.exit_code == 0, done.output
    file = next((tmp_path / "out").rglob("attention.jsonl"))
    first, *lines = map(json.loads, file.read_text().splitlines())
    settings = first["settings"]
    assert (settings["cells"], settings["layers"], settings["heads"]) == (16, None, None)
    assert [(line["value"]["preset"], line["value"]["tokens"]) for line in lines] == [(None, 1100), ("tiny", 1100)]
    for line in lines:
        assert [len(row) for row in line["value"]["weights"]] == list(range(1, 17))
    before = file.read_bytes()
    assert run("eval", "attention", folder, *how, "--resume").exit_code == 0
    assert file.read_bytes() == before
    done = run("report", file, "--plot", tmp_path / "maps.svg", "-o", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "maps.svg").read_text().count("<image") == 4 + 2  # maps, and the scales of colours
    page = (tmp_path / "r.html").read_text()
    assert page.count("<figure>") == 3
    assert "At the greatest distances: base logit" in page
    assert "Beyond the dotted line keys are farther than the trained 64." in page
    table = run("report", file).output
    assert "\nAttention to other tokens at least 1,024 tokens away, percent:\n" in table
    assert len([line for line in table.splitlines() if line.startswith("| tiny |")]) == 4
    assert run("report", file, "--plot", tmp_path / "again.svg", "--picture", "attention").exit_code == 0
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "maps.svg").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": [[1.0], [2.0]]}, "`logits` is no lower triangle"),
        ({"logits": [[1.0], [2.0, 1e300]]}, "`logits` is no lower triangle"),
        ({"weights": [[0.5], [0.2, "x"]]}, "`weights` is no lower triangle"),
        ({"weights": [[0.5]]}, "no maps of one size"),
        ({"distances": {}}, "no list `from`"),
        ({"distances": {"from": [0, 1]}}, "`logits` of `distances` are not as many numbers"),
        ({"distances": {"from": [0, 1], "logits": [1.0, 2.0], "weights": [1.0, -2.0]}}, "`weights` of `distances`"),
        ({"distances": {"from": [1, 0], "logits": [1.0, 2.0], "weights": [1.0, 2.0]}}, "does not grow"),
        ({"distances": {"from": [0, 9], "logits": [1.0, 2.0], "weights": [0.5, 0.2]}}, "out of range"),
        ({"first": 2.0}, "out of range"),
        ({"first": None}, "`first` is missing"),
    ],
)
def test_damaged_maps_are_refused(change, message, tmp_path):
    value = {
        "preset": None, "length": 9, "tokens": 9, "seed": 0, "seconds": 1.0, "first": 0.5,
        "logits": [[1.0], [1.0, 2.0]], "weights": [[1.0], [0.9, 0.1]],
        "distances": {"from": [0, 1], "logits": [1.0, 2.0], "weights": [0.5, 0.2]},
    }  # fmt: skip
    settings = {"settings": {"task": "attention", "source": "tiny"}}
    for given, code in ((value, 0), (value | change, 1)):
        (tmp_path / "a.jsonl").write_text(f"{json.dumps(settings)}\n{json.dumps({'key': 'a', 'value': given})}\n")
        done = run("report", tmp_path / "a.jsonl")
        assert (done.exit_code, message in done.output) == (code, bool(code)), done.output


def test_vllm_cannot_be_watched(folder):
    done = run("eval", "attention", folder, "--backend", "vllm", "--lengths", 64)
    assert done.exit_code != 0
    assert "does not show what its attention sees" in done.output
