"""The report's page in a real browser, where one is installed: its script must run to the end."""

import json
import shutil
import subprocess
from pathlib import Path

import opendojo
import pytest
from opendojo import _core

GRAPH = """graph "page" {
  %x = input f32[64,32] "x"
  %w = weight f32[32,16] "a.weight"
  %y = aten.mm(%x, %w) : f32[64,16] @"a" fwd
  %l = aten.sum(%y) {dim=[0,1]} : f32[] @"loss" fwd
  output %l "loss"
}
"""


def test_the_page_fills_itself(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine: the page was not opened")
    graph = _core.lower(_core.Graph.parse(GRAPH), "bf16", [], "d1")
    simulation = json.loads(_core.simulate(graph, "d1").json(phases=True))
    data = {"version": opendojo.__version__, "simulation": simulation}
    page = tmp_path / "report.html"
    page.write_text(_core.report_html(json.dumps(data)))
    seen = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert "page on d1" in seen
    assert "of it does the step's work" in seen
    assert "No schedule of this plan takes less than" in seen
    assert f"<td>{simulation['memory'][0]['tensor']}</td>" in seen
    assert "The roof is what all live nodes load from SRAM up to 4 FLOP/B" in seen
    assert "The step's length hangs on phases bound by" in seen
    assert "The machine's 1 x 1 dies" in seen
    assert "The first replica, 18 x 19 logical nodes" in seen
    assert "OpenDojo is not affiliated with Tesla" in seen  # what the script writes last
