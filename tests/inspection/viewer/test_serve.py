"""``tzwc view`` finds, opens and serves pages, on this machine only."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tzwc.cli.main import app
from tzwc.errors import InvalidArgumentError
from tzwc.inspection.viewer import find_page, serve


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that would have been opened in a browser."""
    addresses: list[str] = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


def _page(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text("<p>page</p>")
    return folder / "report.html"


def test_a_folder_or_a_file(tmp_path: Path) -> None:
    page = _page(tmp_path / "out")
    assert find_page(tmp_path / "out") == page
    assert find_page(page) == page


@pytest.mark.parametrize(
    ("files", "target", "said"),
    [
        ((), "nothing", "does not exist"),
        (("out/other",), "out", "holds no report.html"),
        (("out/report.json",), "out", r"pip install 'tzwc\[viewer\]'"),
        (("out/report.json",), "out/report.json", "is not a page"),
    ],
)
def test_what_is_no_page_is_refused(files: tuple[str, ...], target: str, said: str, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    with pytest.raises(InvalidArgumentError, match=said):
        find_page(tmp_path / target)
    assert CliRunner().invoke(app, ["view", str(tmp_path / target)]).exit_code == 2


def test_the_command_opens_the_file(tmp_path: Path, opened: list[str]) -> None:
    page = _page(tmp_path / "a b")
    result = CliRunner().invoke(app, ["view", str(page.parent)])
    assert result.exit_code == 0
    assert opened == [page.as_uri()] == [result.stdout.strip()]
    assert CliRunner().invoke(app, ["view", str(page), "--no-open"]).exit_code == 0
    assert len(opened) == 1


def test_the_server_is_for_this_machine_alone(tmp_path: Path) -> None:
    server = serve(_page(tmp_path))
    assert server.server_address[0] == "127.0.0.1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/report.html", timeout=5) as answer:
            assert answer.read() == b"<p>page</p>"
        with pytest.raises(InvalidArgumentError, match="choose another"):
            serve(tmp_path / "report.html", server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_command_serves_until_interrupted(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_server: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupted)
    result = CliRunner().invoke(app, ["view", str(_page(tmp_path)), "--serve"])
    assert result.exit_code == 130
    assert opened[0].startswith("http://127.0.0.1:")
    assert opened[0] in result.stdout
    result = CliRunner().invoke(app, ["view", str(tmp_path), "--serve", "--no-open"])
    assert "http://127.0.0.1:" in result.stdout
    assert len(opened) == 1
