"""Builds the compiled VRS engine of ``native/`` into wheels and editable installations.

It is hatchling's build hook (``pip install``, ``python -m build``), and a program that builds the library in
place for a clone (``python hatch_build.py``). ANYVAR_STEP_BUILD_NATIVE says whether it builds: ``auto``
(where cargo can), ``require`` (it fails where cargo cannot), ``no``. A package without the library is pure
Python, and annotates by the Python engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
#: The library in the package; the stable interface of Python 3.11 serves all later versions.
LIBRARY = Path("anyvar_step", "_native.abi3.so")
SWITCH = "ANYVAR_STEP_BUILD_NATIVE"


class NotBuilt(Exception):
    """The library cannot be built; the message says why."""


def sources_digest(root: Path) -> str:
    """What tells a state of ``native/`` from others, and is compiled into the library.

    ``anyvar_step.vrs.native_engine.is_stale`` computes it, too.
    """
    native = root / "native"
    digest = hashlib.sha256()
    for file in sorted([native / "Cargo.toml", native / "Cargo.lock", *native.glob("src/*.rs")]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def build(root: Path) -> Path:
    """Compile the crate, and return the library. Raises NotBuilt."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise NotBuilt("this Python does not have CPython's stable interface")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise NotBuilt("cargo is not installed")
    # PyO3 asks no Python, and does not link with one: the library fits every Python 3.11 or newer.
    settings = {
        "PYO3_NO_PYTHON": "1",
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "ANYVAR_STEP_NATIVE_SOURCES": sources_digest(root),
    }
    # Where nothing answers, cargo is not to try for minutes.
    patience = {"CARGO_NET_RETRY": "1", "CARGO_HTTP_TIMEOUT": "15"}
    if sys.platform == "darwin":  # symbols of the Python that loads the library
        flags = os.environ.get("RUSTFLAGS", "")
        settings["RUSTFLAGS"] = f"{flags} -C link-arg=-undefined -C link-arg=dynamic_lookup".strip()
    done = subprocess.run(
        [cargo, "build", "--release", "--locked", "--message-format", "json-render-diagnostics"],
        cwd=root / "native",
        env=patience | os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        raise NotBuilt(f"cargo failed: {(errors or ['no error was named'])[0]}")
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    [library] = [
        file
        for message in messages
        if message["reason"] == "compiler-artifact" and message["target"]["name"] == "_native"
        for file in message["filenames"]
        if file.endswith((".so", ".dylib"))
    ]
    return Path(library)


def build_in_place(root: Path) -> str:
    """Put the library into the package of a clone, or remove an older one; what was done, as one line.

    One of these very sources is kept, and needs no cargo.
    """
    target = root / LIBRARY
    try:
        if choice() != "no" and target.exists() and sources_digest(root).encode() in target.read_bytes():
            return "anyvar-step: with the compiled engine"
        built = wanted(root)
    except NotBuilt as reason:
        target.unlink(missing_ok=True)
        return f"anyvar-step: Python engine alone, without the compiled one: {reason}"
    draft = target.with_suffix(f".{os.getpid()}")  # another build of this clone may run: of make, of pip
    shutil.copyfile(built, draft)
    draft.replace(target)  # processes that have the older one loaded keep it
    return "anyvar-step: with the compiled engine"


def choice() -> str:
    """What ANYVAR_STEP_BUILD_NATIVE is. Raises SystemExit where it is nothing that it can be."""
    chosen = os.environ.get(SWITCH, "auto")
    if chosen not in ("auto", "require", "no"):
        raise SystemExit(f"{SWITCH} is {chosen!r}; it can be auto, require or no")
    return chosen


def wanted(root: Path) -> Path:
    """The library, built as ``choice`` says. Raises NotBuilt, and SystemExit where it must be built."""
    if choice() == "no":
        raise NotBuilt(f"{SWITCH}=no")
    try:
        return build(root)
    except NotBuilt as reason:
        if choice() == "require":
            raise SystemExit(f"{SWITCH}=require, and the compiled engine cannot be built: {reason}") from None
        raise


class CustomBuildHook(BuildHookInterface):
    """Adds the library to a wheel, and names the platform that it is for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; ``version`` is ``standard`` or ``editable``."""
        root = Path(self.root)
        if version == "editable":
            self.app.display_info(build_in_place(root))
            return
        try:
            library = wanted(root)
        except NotBuilt as reason:
            self.app.display_warning(f"anyvar-step: a wheel without the compiled engine: {reason}")
            return
        build_data["force_include"][str(library)] = str(LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform_tag()}"


def platform_tag() -> str:
    """The platform of a wheel for this machine; auditwheel and its like find out on which others it runs."""
    from packaging.tags import sys_tags

    names = (tag.platform for tag in sys_tags())
    return next(name for name in names if "manylinux" not in name and "musllinux" not in name)


if __name__ == "__main__":
    print(build_in_place(ROOT))
