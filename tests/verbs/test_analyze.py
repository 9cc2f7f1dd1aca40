"""`analyze` and `compare` as values, as pages, and from the terminal."""

import json

import pytest
import torch
from torch import nn

import paredown
from paredown import cli
from paredown.core.errors import BadInput
from paredown.reports.analysis import write_analysis
from paredown.verbs.compare import compare


def test_the_conventions_stand_side_by_side_and_sums_agree():
    found = paredown.analyze("resnet_8", (3, 32, 32))
    total = found["total"]
    for key in ("params", "nonzero", "bits", "macs", "mults", "adds", "compares", "specials"):
        assert sum(row[key] for row in found["layers"]) == total[key]
    assert found["conventions"]["papers"]["macs"] == 12_501_632 == total["macs"]  # methods B3: ResNet-8
    assert found["conventions"]["nessi"]["params"] == total["params"] == 78_186
    assert found["memory"]["peaks"]["none"] == total["ram_bytes"] == total["peak_bytes"]
    assert max(m["bytes"] for m in found["memory"]["timeline"]) == found["memory"]["peaks"]["pointwise"]
    json.dumps(found)


def test_modelled_costs_name_their_model_and_device():
    plain = paredown.analyze("resnet_8", (3, 32, 32))
    assert [e["what"] for e in plain["estimates"]] == ["energy_uj"] and plain["device"] is plain["roofline"] is None
    assert sum(row["uj"] for row in plain["energy_by_layer"]) == pytest.approx(plain["estimates"][0]["value"])
    board = paredown.analyze("resnet_8", (3, 32, 32), device="nucleo_l4r5zi-x_cube_ai")
    assert {e["what"] for e in board["estimates"]} == {"energy_uj", "latency_ms"}
    roof = paredown.analyze("resnet_8", (3, 32, 32), device="nvidia_t4")["roofline"]
    assert sum(row["share"] for row in roof["rows"]) == pytest.approx(1)
    assert all(row["attainable_ops"] <= roof["peak_ops"] for row in roof["rows"])
    cycles = paredown.analyze("resnet_8", (3, 32, 32), device="nvdla-small")["estimates"]
    assert "cycles" in {e["what"] for e in cycles}
    with pytest.raises(BadInput, match="lists them"):
        paredown.analyze("resnet_8", (3, 32, 32), device="toaster")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet_8", "--classes", "0"), "classes 0 must be at least 1"),
        (("resnet_8", "--input", "axb"), "'axb' is not a shape"),
        (("nothing",), "model 'nothing' is unknown; give one of dense"),
        (("lenet_5", "--input", "1x28x28", "--report", "/proc/x/y.html"), "cannot be written"),
        (("lenet_5", "--input", "1x28x28", "--device", "/nowhere/board.yaml"), "cannot be read"),
    ],
)
def test_nonsense_gets_one_line(words, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["paredown", "analyze", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    shown = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and said in shown and "\n" not in shown and shown.startswith("paredown: ")


def test_the_page_holds_every_layer_and_fetches_nothing(tmp_path):
    found = paredown.analyze(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)),
        torch.rand(1, 3, 8, 8),
        device="nvidia_t4",
    )
    page = write_analysis(found, "<mine>", tmp_path / "page.html").read_text()
    assert "&lt;mine&gt;" in page and "<mine>" not in page
    assert page.count('<tr><th scope="row">0</th>') == 1 and "NVIDIA T4" in page
    assert 'src="http' not in page
    assert page.count("plotly-graph-div") == 4


def test_models_are_compared_from_tables(tmp_path, monkeypatch, capsys):
    table = tmp_path / "models.csv"
    table.write_text(
        "name,accuracy,macs,params\nalexnet,0.571,724406816,60965224\nsqueezenet,0.575,349151936,1235496\n"
    )
    found = compare([table], tmp_path / "out.html")
    assert [m["name"] for m in found["models"]] == ["alexnet", "squeezenet"] and found["metric"] == "accuracy"
    page = (tmp_path / "out.html").read_text()
    assert page.index('<tr><th scope="row">squeezenet') < page.index(
        '<tr><th scope="row">alexnet'
    )  # density: 46.5 and 0.94
    assert "46.54" in page
    monkeypatch.setattr("sys.argv", ["paredown", "compare", str(table), "--out", str(tmp_path / "two.html"), "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0 and json.loads(capsys.readouterr().out)["schema"] == "paredown/compare/1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,macs,params\na,1,2\n", "a model needs a name and an accuracy"),
        ("name,accuracy,params\na,0.5,2\n", "macs, params and accuracy must be numbers"),
        ("name,accuracy,macs,params\na,0.5,0,2\n", "must be more than zero"),
        ("name,accuracy,macs,params\n", "there is no model to compare"),
        ("name,accuracy,auc,macs,params\na,0.5,,1,2\nb,,0.5,1,2\n", "different metrics"),
    ],
)
def test_tables_that_cannot_be_compared(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput, match=said):
        compare([tmp_path / "t.csv"], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
    with pytest.raises(BadInput, match="axis 'joy' is unknown"):
        compare([tmp_path / "t.csv"], tmp_path / "out.html", across="joy")
    with pytest.raises(BadInput, match="cannot be read"):
        compare([tmp_path / "none.csv"], tmp_path / "out.html")
