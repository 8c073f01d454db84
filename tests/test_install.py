"""The wheel: built, complete, and at work in an environment that never saw the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

import btoks

ROOT = Path(__file__).parents[1]


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_else(wheel: Path):
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in (source / "btoks").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert packed == files
    assert "btoks/bundled/sample/LICENSES.md" in packed
    assert len(licences) == 1


def test_wheel_tells_its_licence_and_what_it_needs(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = BytesParser().parsebytes(archive.read(name))
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("btoks", btoks.__version__, "Apache-2.0")
    assert "## Licence" in told.get_payload()


def test_console_script_works_in_an_empty_environment(wheel: Path, tmp_path: Path):
    """The dependencies are lent by the environment of the tests, whose own btoks is not on the path."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    pip("--python", home / "bin" / "python", "install", "--no-index", "--no-deps", wheel)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    script, python = str(home / "bin" / "btoks"), str(home / "bin" / "python")
    assert run(script, "--version") == f"btoks {btoks.__version__}\n"
    assert run(python, "-m", "btoks", "--version") == f"btoks {btoks.__version__}\n"
    listed = [json.loads(line) for line in run(script, "methods", "--json").splitlines()]
    assert "mean" in {each["name"] for each in listed}
    place = run(python, "-c", "from btoks.bundled import captions, sample; print(sample(), len(captions()))").split()
    assert Path(place[0]).is_relative_to(packages)
    assert int(place[1]) > 100
