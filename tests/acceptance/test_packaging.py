"""The compiled engine in wheels and editable installations: with cargo, without it, without its network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support import ROOT, write_genome, write_vcf
from test_release import installing, run

from anyvar_step import __version__

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]  # compiles, and takes a network

needs_cargo = pytest.mark.skipif(
    shutil.which("cargo") is None and os.environ.get("CI") != "true",
    reason="SKIPPED: cargo is not installed, and nothing can be compiled",
)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    pytest.importorskip("build", reason="the test-services extra is not installed")
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--sdist", "--outdir", folder, ROOT, cwd=folder)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / f"anyvar_step-{__version__}"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where cargo puts what it compiles, so that each crate is compiled once."""
    return tmp_path_factory.mktemp("target")


def build(source: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A wheel, built in this environment."""
    return subprocess.run(
        [sys.executable, "-m", "build", "--installer", "uv", "--wheel", "--outdir", str(folder), str(source)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )


def wheel_of(folder: Path) -> Path:
    [wheel] = folder.glob("*.whl")
    return wheel


def runs(python: str) -> bool:
    """Whether a Python of that name starts here; a version manager's may not."""
    return (
        bool(shutil.which(python)) and not subprocess.run([python, "-V"], check=False, timeout=60).returncode
    )


def without_cargo(folder: Path) -> str:
    """PATH with all that this one has, and no cargo."""
    (folder / "bin").mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).glob("*") if Path(place).is_dir() else ():
            link = folder / "bin" / program.name
            if program.name not in ("cargo", "rustup"):
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(folder / "bin")


def engine_of(home: Path, folder: Path) -> str:
    """What the installation in ``home`` says of itself, after it has annotated a VCF."""
    program = home / "bin" / "anyvar-step"
    genome = write_genome(folder / "genome.fa")
    write_vcf(folder / "in.vcf", genome)
    arguments = ["in.vcf", "-o", "out.vcf", "--local", "--reference", "GRCh38=genome.fa"]
    run(program, "annotate", *arguments, cwd=folder)
    assert (folder / "out.vcf").read_bytes().count(b"ga4gh:VA.") == 400
    return run(program, "--version", cwd=folder)


@needs_cargo
def test_a_wheel_has_the_compiled_engine_for_all_versions_of_python(
    sdist: Path, compiled: Path, tmp_path: Path
) -> None:
    done = build(sdist, tmp_path, ANYVAR_STEP_BUILD_NATIVE="require", CARGO_TARGET_DIR=str(compiled))
    assert done.returncode == 0, done.stderr
    assert f"anyvar_step-{__version__}-cp311-abi3-" in wheel_of(tmp_path).name
    with zipfile.ZipFile(wheel_of(tmp_path)) as wheel:
        assert "anyvar_step/_native.abi3.so" in wheel.namelist()
    for number, python in enumerate([sys.executable, *filter(runs, ("python3.12", "python3.13"))]):
        home = tmp_path / f"venv{number}"
        subprocess.run([python, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
        run(*installing(home), f"{wheel_of(tmp_path)}[local]", cwd=tmp_path)
        assert "native engine" in engine_of(home, tmp_path)


def test_without_cargo_the_wheel_is_pure_python_and_says_so(sdist: Path, tmp_path: Path) -> None:
    path = without_cargo(tmp_path)
    done = build(sdist, tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "a wheel without the compiled engine: cargo is not installed" in done.stdout + done.stderr
    assert wheel_of(tmp_path).name == f"anyvar_step-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel_of(tmp_path)) as wheel:
        assert not [name for name in wheel.namelist() if name.endswith(".so")]
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    run(*installing(home), f"{wheel_of(tmp_path)}[local]", cwd=tmp_path)
    assert "python engine" in engine_of(home, tmp_path)


def test_without_cargo_a_wheel_that_must_have_the_engine_is_not_built(sdist: Path, tmp_path: Path) -> None:
    done = build(sdist, tmp_path, PATH=without_cargo(tmp_path), ANYVAR_STEP_BUILD_NATIVE="require")
    assert done.returncode != 0
    assert "the compiled engine cannot be built: cargo is not installed" in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))


@needs_cargo
def test_where_cargo_has_no_network_the_wheel_is_pure_python(sdist: Path, tmp_path: Path) -> None:
    done = build(
        sdist,
        tmp_path,
        CARGO_HOME=str(tmp_path / "cargo"),  # nothing was fetched before
        CARGO_NET_OFFLINE="true",
        CARGO_TARGET_DIR=str(tmp_path / "target"),
    )
    assert done.returncode == 0, done.stderr
    assert "a wheel without the compiled engine: cargo failed: error: " in done.stdout + done.stderr
    assert wheel_of(tmp_path).name.endswith("-py3-none-any.whl")


@needs_cargo
def test_an_editable_installation_has_the_engine_in_place_and_notices_other_sources(
    sdist: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARGO_TARGET_DIR", str(compiled))
    clone, home = tmp_path / "clone", tmp_path / "venv"
    shutil.copytree(sdist, clone)
    library = clone / "anyvar_step" / "_native.abi3.so"
    library.write_bytes(b"an older one")
    venv.create(home, with_pip=False)
    run(*installing(home), "--editable", f"{clone}[local]", cwd=tmp_path)
    assert "native engine" in engine_of(home, tmp_path)

    def version() -> str:
        command = [str(home / "bin" / "anyvar-step"), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
        return done.stderr

    assert version() == ""
    source = clone / "native" / "src" / "lib.rs"
    source.write_text(source.read_text() + "// changed\n")
    assert version() == "The native engine is not that of the sources in native/: run `make native`\n"
    built = run(sys.executable, "hatch_build.py", cwd=clone)
    assert built == "anyvar-step: with the compiled engine\n"
    assert version() == ""

    source.write_text("this is not Rust\n")
    built = run(sys.executable, "hatch_build.py", cwd=clone)
    assert built.startswith("anyvar-step: Python engine alone, without the compiled one: cargo failed: error")
    assert not library.exists()
    assert "python engine" in engine_of(home, tmp_path)
