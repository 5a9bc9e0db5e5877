"""The `workbench` command, run for real: a server on this machine, and folders one may not write to."""

import html
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import workbench
from workbench import cli, pages

TOKEN = "a-token-for-this-test"


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "workbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def fetch(url: str) -> tuple[int, str]:
    """Status and body; a redirect is not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    try:
        with urllib.request.build_opener(Stay).open(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# --- help, version, info -------------------------------------------------------------------------


def test_help_is_quick_and_light():
    code = (
        "import sys, time\n"
        "from workbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'jupyterlab', 'datasets', 'matplotlib'} & set(sys.modules))\n"
        "print(time.process_time())\n"  # others may be using the machine, too
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, heavy, seconds = answer.stdout.splitlines()
    assert heavy == "set()" and float(seconds) < 1
    for command in ("lab", "info", "pages"):
        assert command in answer.stdout


def test_version_is_that_of_the_package():
    assert run("--version").stdout == f"workbench {workbench.__version__}\n"


def test_info_describes_the_installation():
    answer = run("info")
    assert answer.returncode == 0, answer.stderr
    facts = dict(line.split(None, 1) for line in answer.stdout.splitlines())
    assert facts["python"] == sys.version.split()[0]
    assert facts["lessons"] == str(cli.notebooks_folder())
    assert {"workbench", "torch", "device", "checkpoints"} <= facts.keys()


@pytest.mark.parametrize("model", ["no/such/folder", ""])
def test_info_on_a_missing_model_is_one_sentence(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", model])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"workbench: [^\n]+\.\n", said.err)


@pytest.mark.parametrize("error", [ValueError("Too long."), PermissionError("Not yours.")])
def test_a_bad_input_is_one_sentence(error, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(cli, "print_info", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", "model"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"workbench: {error}\n"


def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in ([], ["info", "model"], ["pages"]):
        with pytest.raises(SystemExit):
            cli.main(command)
        assert capsys.readouterr().err.startswith("workbench: The current folder was deleted; go to another")


def test_a_reader_that_has_enough_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "workbench", "info"]
    answer = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert answer.stderr == ""


# --- the lessons ---------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A package as a wheel leaves it, with two lessons inside; the current folder is an empty one."""
    package = tmp_path / "site-packages" / "workbench"
    for lesson in (cli.FIRST_LESSON, "pictures/one.txt"):
        (package / "notebooks" / lesson).parent.mkdir(parents=True, exist_ok=True)
        (package / "notebooks" / lesson).write_text("{}")
    monkeypatch.setattr(cli, "__file__", str(package / "cli.py"))
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return package


def forbid_writing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes `folder` look read-only; root could write to a folder that is."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))


def test_a_checkout_knows_its_own_lessons():
    assert cli.notebooks_folder() == Path(__file__).parent.parent / "notebooks"


def test_a_copy_is_opened(installed, tmp_path, capsys):
    copy = cli.working_folder()
    assert copy == tmp_path / "here" / "workbench-lessons"
    assert (copy / cli.FIRST_LESSON).is_file()
    assert (copy / "pictures" / "one.txt").is_file()
    assert capsys.readouterr().out == f"Your copy of the lessons is in {copy}\n"


def test_what_the_user_changed_stays(installed):
    copy = cli.working_folder()
    (copy / cli.FIRST_LESSON).write_text("mine")
    (copy / "pictures" / "one.txt").unlink()
    os.chdir(copy)  # and no copy within the copy
    assert cli.working_folder() == copy
    assert (copy / cli.FIRST_LESSON).read_text() == "mine"
    assert (copy / "pictures" / "one.txt").read_text() == "{}"
    assert (installed / "notebooks" / cli.FIRST_LESSON).read_text() == "{}"


def test_what_the_user_left_alone_follows_the_new_lessons(installed, capsys):
    lessons, copy = installed / "notebooks", cli.working_folder()
    for text in ("newer", "newest"):
        (lessons / cli.FIRST_LESSON).write_text(text)
        cli.working_folder()
        assert (copy / cli.FIRST_LESSON).read_text() == text
    assert "Not renewed" not in capsys.readouterr().out
    (copy / cli.FIRST_LESSON).write_text("mine")
    cli.working_folder()
    assert "Not renewed" not in capsys.readouterr().out  # there is nothing newer than what it was copied from
    (lessons / cli.FIRST_LESSON).write_text("newer than mine")
    cli.working_folder()
    assert f"Not renewed, as yours differ: {cli.FIRST_LESSON}." in capsys.readouterr().out
    assert (copy / cli.FIRST_LESSON).read_text() == "mine"
    (copy / cli.FIRST_LESSON).unlink()
    cli.working_folder()
    assert (copy / cli.FIRST_LESSON).read_text() == "newer than mine"


def test_a_full_disk_breaks_no_lesson(installed, capsys):
    resource = pytest.importorskip("resource")
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    (installed / "notebooks" / cli.FIRST_LESSON).write_text("newer" * 1000)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
        with pytest.raises(OSError, match="could not be written .*; nothing was changed"):
            cli.working_folder()
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
        copy = cli.working_folder()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        cli.working_folder()  # all is there already
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    cli.working_folder()
    assert (copy / cli.FIRST_LESSON).read_text() == "newer" * 1000
    assert "Not renewed" not in capsys.readouterr().out


@pytest.mark.parametrize("record", ["", "[]", "[1]", "3", "null", "{"])
def test_a_record_that_cannot_be_read_is_written_anew(record, installed):
    copy = cli.working_folder()
    whole = (copy / cli.COPIED).read_text()
    (copy / cli.COPIED).write_text(record)
    cli.working_folder()
    assert (copy / cli.COPIED).read_text() == whole


def test_neither_hidden_files_nor_the_copy_itself_are_copied(installed):
    (installed / "notebooks" / ".ipynb_checkpoints").mkdir()
    (installed / "notebooks" / ".ipynb_checkpoints" / "old.ipynb").write_text("{}")
    os.chdir(installed / "notebooks")
    for _ in range(2):
        copy = cli.working_folder()
    assert copy == installed / "notebooks" / "workbench-lessons"
    assert {path.name for path in copy.iterdir()} == {cli.FIRST_LESSON, "pictures", cli.COPIED}


def test_a_read_only_folder_means_the_home_folder(installed, tmp_path, monkeypatch):
    forbid_writing(monkeypatch, tmp_path / "here")
    assert cli.working_folder() == tmp_path / "home" / "workbench-lessons"
    assert list((tmp_path / "here").iterdir()) == []


def test_missing_lessons_are_said_in_a_sentence(installed):
    shutil.rmtree(installed / "notebooks")
    with pytest.raises(FileNotFoundError, match="lessons are missing"):
        cli.notebooks_folder()


@pytest.fixture
def started(installed, monkeypatch) -> list[dict]:
    """The settings that servers were started with; none runs."""
    found = []

    def initialize(arguments: list[str]) -> SimpleNamespace:
        found.append(dict(argument.removeprefix("--").split("=", 1) for argument in arguments))
        return SimpleNamespace(web_app=SimpleNamespace(settings={}), start=lambda: None)

    monkeypatch.setattr("jupyterlab.labapp.LabApp.initialize_server", initialize)
    monkeypatch.setattr(cli, "_send_kernel_messages_at_once", lambda: None)
    monkeypatch.setenv("JUPYTER_PATH", "")
    return found


def test_who_edits_the_lessons_opens_the_originals(installed, started):
    for command in ([], ["lab"], ["lab", "--originals"]):
        cli.main(command)
    copy = str(Path.cwd() / "workbench-lessons")
    assert [one["ServerApp.root_dir"] for one in started] == [copy, copy, str(installed / "notebooks")]


@pytest.mark.parametrize("port", [8888, 65400, 65500, 65531, 65534, 65535])
def test_no_port_is_tried_that_is_none(port, started):
    from jupyter_server.serverapp import random_ports

    cli.main(["lab", f"--port={port}"])
    retries = int(started[0]["ServerApp.port_retries"])
    tried = [one for _ in range(100) for one in random_ports(port, retries + 1)]
    assert port in tried and max(tried) < 65536


# --- pages ---------------------------------------------------------------------------------------


@pytest.fixture
def notebooks(tmp_path, monkeypatch) -> SimpleNamespace:
    """Two notebooks; `.run` are the names of those that were run, and `.fault` what happens in the second."""
    files = [tmp_path / "one.ipynb", tmp_path / "two.ipynb"]
    for file in files:
        cells = [new_markdown_cell(f"# The {file.stem} & $x^2$\n[two](two.ipynb), [other](other.ipynb)")]
        nbformat.write(new_notebook(cells=cells), file)
    found = SimpleNamespace(files=files, folder=tmp_path / "pages", run=[], fault=None)

    def run(notebook, folder: Path) -> Iterator[None]:
        name = re.search(r"The (\w+)", notebook.cells[0].source)[1]
        if name == "two" and found.fault:
            raise found.fault
        found.run.append(name)
        notebook.metadata.update(stills={}, values="", widgets={pages.STATE: {"state": {}}})
        yield

    monkeypatch.setattr(pages, "_run", run)
    return found


def written(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_pages_of_notebooks_and_an_index(notebooks, capsys):
    cli.main(["pages", str(notebooks.folder), *map(str, notebooks.files)])
    assert written(notebooks.folder) == ["index.html", "one.html", "two.html"]
    assert str(notebooks.folder / "index.html") in capsys.readouterr().out
    page = (notebooks.folder / "one.html").read_text()
    assert "<title>The one &amp;</title>" in page
    assert 'href="two.html"' in page and 'href="other.ipynb"' in page, "links to pages that are there"
    assert 'aria-label="x^2"' in page and "http" not in page.replace("http://www.w3.org", "")
    listed = (notebooks.folder / "index.html").read_text()
    assert re.findall(r'href="([^"]+)"', listed) == ["one.html", "two.html"]


def test_links_to_pages_of_any_name_and_to_those_that_are_made_later(notebooks):
    names = ["one #1", "50% two?", "my & second"]
    links = "[a](one%20%231.ipynb) [b](50%25%20two%3F.ipynb) [c](<./my & second.ipynb#end>) [d](gone.ipynb)"
    files = [notebooks.files[0].with_name(f"{name}.ipynb") for name in names]
    for file in files:
        nbformat.write(new_notebook(cells=[new_markdown_cell(f"# The page\n{links}")]), file)
    pages.write_pages(notebooks.folder, files[:1])
    pages.write_pages(notebooks.folder, files)
    for page, others in (("one #1.html", {"index.html", "gone.ipynb"}), ("index.html", set())):
        text = (notebooks.folder / page).read_text()
        found = [urlsplit(html.unescape(link)) for link in re.findall(r'href="([^"]+)"', text)]
        assert {unquote(link.path) for link in found} == others | {f"{name}.html" for name in names}


def test_a_page_of_a_notebook_without_widgets(tmp_path):
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# Plain"), new_code_cell("1 + 1")]), tmp_path / "a.ipynb"
    )
    pages.write_pages(tmp_path / "pages", [tmp_path / "a.ipynb"])
    page = (tmp_path / "pages" / "a.html").read_text()
    assert "<title>Plain</title>" in page and "<pre>2</pre>" in page


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"cells": 1, "nbformat": 4}', '{"nbformat": 99}'])
def test_what_is_no_notebook_is_one_sentence(text, tmp_path):
    (tmp_path / "no.ipynb").write_text(text)
    with pytest.raises(ValueError, match="no.ipynb is no notebook that can be read.$"):
        pages.write_pages(tmp_path / "pages", [tmp_path / "no.ipynb"])


@pytest.mark.parametrize("port", ["0", "-5", "70000", "eight"])
def test_a_port_that_is_none_is_one_sentence(port, capsys):
    with pytest.raises(SystemExit):
        cli.main(["lab", f"--port={port}"])
    assert f"a port is a whole number between 1 and 65535, not {port}" in capsys.readouterr().err


def test_a_page_is_made_again_only_if_it_is_old(notebooks, monkeypatch):
    pages.write_pages(notebooks.folder, notebooks.files)
    pages.write_pages(notebooks.folder, notebooks.files)
    assert notebooks.run == ["one", "two"]
    later = time.time() + 100
    os.utime(notebooks.files[1], (later, later))
    pages.write_pages(notebooks.folder, notebooks.files)
    assert notebooks.run == ["one", "two", "two"]
    monkeypatch.setattr(pages, "_checkpoints_digest", lambda: "another checkpoint")
    pages.write_pages(notebooks.folder, notebooks.files[:1])
    assert notebooks.run[3:] == ["one"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), DeadKernelError("Kernel died.")])
def test_what_is_done_is_kept(fault, notebooks):
    notebooks.fault = fault
    with pytest.raises(KeyboardInterrupt if isinstance(fault, KeyboardInterrupt) else ValueError) as stopped:
        pages.write_pages(notebooks.folder, notebooks.files)
    assert str(stopped.value) in ("", "There is no page of two.ipynb (Kernel died.).")
    assert written(notebooks.folder) == ["index.html", "one.html"]
    assert "two.html" not in (notebooks.folder / "index.html").read_text()
    notebooks.fault = None
    pages.write_pages(notebooks.folder, notebooks.files)
    assert notebooks.run == ["one", "two"], "only what was missing"


def test_no_pages_of_what_cannot_be_read(notebooks, tmp_path):
    (tmp_path / "broken.ipynb").write_text("no notebook")
    (tmp_path / "deep").mkdir()
    twin = tmp_path / "deep" / "one.ipynb"
    cases = [
        (tmp_path / "my.ipynb", [], "name is that of the folder"),
        (notebooks.folder, [notebooks.files[0], twin], "the same name"),
        (notebooks.folder, [tmp_path / "broken.ipynb"], "broken.ipynb is no notebook that can be read"),
    ]
    for folder, files, message in cases:
        with pytest.raises(ValueError, match=message):
            pages.write_pages(folder, files)
        assert not folder.exists()


@pytest.mark.parametrize("latex", [r"\no{such}", r"\begin{matrix} a \end{matrix}"])
def test_a_formula_that_cannot_be_drawn_is_shown_as_it_was_typed(latex):
    assert pages.formula(latex) == f"<code>{latex}</code>"


def test_nbconvert_as_the_readme_calls_it_tells_what_is_on_the_pictures(tmp_path):
    data = {pages.VIEW: {"model_id": "one"}, "image/png": "iVBORw0KGgo="}
    output = new_output("display_data", data, metadata={"image/png": {"alt": "What is seen"}})
    nbformat.write(new_notebook(cells=[new_code_cell("show", outputs=[output])]), tmp_path / "a.ipynb")
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    options = re.search(r"`(--[^`]+)` it shows still pictures", readme)[1].split()
    command = [sys.executable, "-m", "nbconvert", "--to=html", *options, str(tmp_path / "a.ipynb")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert 'alt="What is seen"' in (tmp_path / "a.html").read_text()


# --- JupyterLab ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(checkout, tmp_path_factory) -> Iterator[dict]:
    """What a launcher that runs in a checkout tells about itself; its first port was taken when it started.

    The user has a "python3" kernel of another Python, and starts it from a folder of no importance.
    """
    home = tmp_path_factory.mktemp("home")
    other = home / "data" / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"argv": ["/no/such/python"], "display_name": "Other", "language": "python"}))
    environment = os.environ | {
        "HOME": str(home),
        "PYTHONPATH": str(checkout),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "JUPYTER_TOKEN": TOKEN,
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench", "lab", "--no-browser", "--port", str(port)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            deadline = time.monotonic() + 90
            while not (found := list((home / "runtime").glob("jpserver-*.json"))):
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < deadline, "The server did not start."
                time.sleep(0.2)
            yield json.loads(found[0].read_text()) | {"taken": port, "process": process}
        finally:
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=60)[0]
    assert "Traceback" not in output


def test_a_taken_port_means_the_next_one(server):
    assert server["taken"] < server["port"] <= server["taken"] + 5


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of connections")
def test_the_server_listens_to_this_machine_only(server):
    assert server["hostname"] == "127.0.0.1"
    listening = [
        line.split()[1].split(":")
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == server["port"]
    ]
    assert [address for address, _ in listening] == ["0100007F"]


def test_the_server_asks_for_its_token(server):
    assert fetch(f"{server['url']}api/contents")[0] == 403
    assert fetch(f"{server['url']}lab")[0] == 302
    assert fetch(f"{server['url']}api/contents?token=wrong")[0] == 403
    status, body = fetch(f"{server['url']}api/contents?token={TOKEN}")
    assert status == 200
    assert cli.FIRST_LESSON in [entry["name"] for entry in json.loads(body)["content"]]


def test_what_is_saved_lands_in_the_copy_and_the_checkout_stays_clean(server, checkout):
    url = f"{server['url']}api/contents/{cli.FIRST_LESSON}?token={TOKEN}"
    lesson = json.loads(fetch(url)[1])
    lesson["content"]["cells"][0]["source"] = "changed"
    headers = {"Content-Type": "application/json", "Authorization": f"token {TOKEN}"}
    request = urllib.request.Request(url, json.dumps(lesson).encode(), headers, method="PUT")
    assert urllib.request.urlopen(request, timeout=30).status == 200
    saved = json.loads((checkout / "workbench-lessons" / cli.FIRST_LESSON).read_text())
    assert saved["cells"][0]["source"] in ("changed", ["changed"])
    assert subprocess.check_output(["git", "status", "--porcelain"], cwd=checkout) == b""


def test_the_first_lesson_is_what_opens(server):
    with urllib.request.urlopen(f"{server['url']}?token={TOKEN}", timeout=30) as response:  # leads there
        address, body = response.geturl(), response.read().decode()
    assert f"/doc/tree/{cli.FIRST_LESSON}" in address
    page_config = json.loads(re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', body, re.DOTALL)[1])
    assert page_config["treePath"] == cli.FIRST_LESSON
    assert page_config["news"] == {"disabled": True}
    assert "@jupyterlab/apputils-extension:announcements" in page_config["disabledExtensions"]
    assert page_config["extensionManager"]["can_install"] is False


def test_the_kernel_is_the_python_of_the_workbench(server):
    _, body = fetch(f"{server['url']}api/kernelspecs?token={TOKEN}")
    python3 = json.loads(body)["kernelspecs"]["python3"]["spec"]
    assert python3["argv"][0] != "/no/such/python"


def test_kernel_messages_are_sent_at_once(monkeypatch):
    from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

    opened = []
    monkeypatch.setattr(KernelWebsocketHandler, "open", lambda self, kernel_id: opened.append(kernel_id))
    cli._send_kernel_messages_at_once()

    class Connection:
        no_delay = False

        def set_nodelay(self, value: bool) -> None:
            self.no_delay = value

    connection = Connection()
    KernelWebsocketHandler.open(connection, "one")
    KernelWebsocketHandler.open(object(), "two")  # a connection that cannot do it opens all the same
    assert connection.no_delay
    assert opened == ["one", "two"]


@pytest.mark.parametrize(("display", "opens"), [("", False), (":0", True)])
def test_a_browser_opens_only_where_there_is_a_window_for_it(display, opens, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("BROWSER", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert cli._has_display() is opens


# --- the guard in conftest.py --------------------------------------------------------------------


def test_no_test_reaches_the_network(outgoing_connections):
    with pytest.raises(OSError, match="offline"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="offline"):
        socket.getaddrinfo("example.org", 443)
    assert set(outgoing_connections) == {"192.0.2.1", "example.org"}
    outgoing_connections.clear()
