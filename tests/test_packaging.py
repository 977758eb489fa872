"""What is listed is what is there, and the wheel alone is enough."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import spcnn_lightning

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it where the standard library lacks it
    import tomli as tomllib

LINKS = ("adapters", "configs", "datamodules")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_listed_packages_are_the_directories(repository, project):
    sources = {"spcnn_lightning": "spcnn_lightning"} | {f"spcnn_lightning.{n}": n for n in LINKS}
    found = set()
    for package, folder in sources.items():
        for file in [*(repository / folder).rglob("*.py"), *(repository / folder).rglob("*.yaml")]:
            inside = file.parent.relative_to(repository / folder)
            if inside.parts[:1] not in [(link,) for link in LINKS]:
                found.add(".".join([package, *inside.parts]))
    assert sorted(found) == project["tool"]["setuptools"]["packages"]


@pytest.mark.parametrize("name", LINKS)
def test_links_lead_to_the_top_level(repository, name):
    link = repository / "spcnn_lightning" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


def test_every_package_has_an_init_file_but_the_configs(repository, project):
    for package in project["tool"]["setuptools"]["packages"]:
        folder = repository / package.replace(".", "/")
        assert (folder / "__init__.py").is_file() == (package != "spcnn_lightning.configs"), package


def test_the_citation_names_this_version(repository):
    citation = (repository / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {spcnn_lightning.__version__}\n" in citation


def build_wheel(repository: Path, scratch: Path, *, with_links: bool) -> Path:
    """Build in a copy: setuptools leaves a folder behind that would leak into the next wheel."""
    source = scratch / f"source_{with_links}"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    ignore = shutil.ignore_patterns("__pycache__", *([] if with_links else LINKS))
    shutil.copytree(
        repository / "spcnn_lightning", source / "spcnn_lightning", symlinks=True, ignore=ignore
    )
    for name in LINKS:
        skip_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, source / name, ignore=skip_caches)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(repository, tmp_path_factory.mktemp("wheel"), with_links=True)


def test_the_wheel_holds_the_package_and_nothing_else(repository, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = f"spcnn_lightning-{spcnn_lightning.__version__}.dist-info"
    files = {
        (Path(folder) / name).relative_to(repository).as_posix()
        for folder, _, names_here in os.walk(repository / "spcnn_lightning", followlinks=True)
        for name in names_here
        if Path(name).suffix in {".npz", ".py", ".txt", ".typed", ".yaml"}
    }
    assert {name for name in names if not name.startswith(metadata)} == files
    assert f"{metadata}/licenses/LICENSE" in names
    data = [name for name in files if name.startswith("spcnn_lightning/datamodules/data/")]
    assert {Path(name).suffix for name in data} == {".npz", ".txt"}, "data travel with a licence"


def test_a_checkout_without_links_gives_the_same_wheel(repository, wheel, tmp_path):
    other = build_wheel(repository, tmp_path, with_links=False)
    assert set(zipfile.ZipFile(other).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_works_in_an_empty_environment(repository, wheel, tmp_path):
    """Only third-party packages come from the running environment; ours comes from the wheel."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    scripts, site = environment / "bin", environment / "lib" / version / "site-packages"
    if os.name == "nt":
        scripts, site = environment / "Scripts", environment / "Lib" / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    # A line in a .pth file adds the folder but, unlike a site folder, not its editable installs.
    (site / "third_party.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")

    def run(*arguments: str) -> str:
        command = [str(scripts / "python"), "-I", *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert str(site) in run(str(repository / ".ci" / "import_everything.py"))
    assert "quickstart" in run("-m", "spcnn_lightning", "configs", "list")
    copied = run("-m", "spcnn_lightning", "configs", "copy", "quickstart").strip()
    shipped = repository / "configs" / "quickstart.yaml"
    assert (tmp_path / copied).read_bytes() == shipped.read_bytes()
