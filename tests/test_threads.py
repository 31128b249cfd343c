"""How idle threads wait: programs bound it before torch is imported, never against the user, and the library never."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from biglittle_asr.threads import BOUNDS, SETTINGS
from support.repository import REPOSITORY

SCRIPTS = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "recipes").rglob("train.py"))
PROGRAMS = {
    **{script: [script, "nowhere.yaml"] for script in SCRIPTS},
    "biglittle": ["-m", "biglittle_asr.cli", "profile", "bl_resnet22"],
}
"""Arguments of Python for each program, with which it imports torch."""

TORCH = f"""
import json, os

print(json.dumps({{name: os.environ[name] for name in {sorted(SETTINGS)} if name in os.environ}}), flush=True)
os._exit(0)
"""
"""Stands for torch: prints what OpenMP would read, and ends the program."""


def run(arguments: list[str], path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    environment |= {"PYTHONPATH": os.pathsep.join([str(path), str(REPOSITORY)]), **variables}
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True)


@pytest.fixture
def read(tmp_path):
    """What a program's environment is when it imports torch."""
    (tmp_path / "torch.py").write_text(TORCH)

    def read(arguments: list[str], **variables: str) -> dict[str, str]:
        done = run(arguments, tmp_path, **variables)
        assert done.returncode == 0 and done.stdout, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        return found

    return read


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_bound_spinning_before_torch_is_imported(program, read):
    assert read(PROGRAMS[program]) == BOUNDS


@pytest.mark.parametrize("setting", sorted(SETTINGS))
def test_the_users_setting_stays(setting, read):
    for program in ("biglittle", SCRIPTS[0]):
        assert read(PROGRAMS[program], **{setting: "0"}) == {setting: "0"}


def test_the_library_leaves_the_environment_alone(read):
    imports = "import biglittle_asr.cli, biglittle_asr.threads, biglittle_asr.models"
    assert read(["-c", imports]) == {}


@pytest.mark.slow
def test_openmp_reads_the_bound(tmp_path):
    """OpenMP's own word, one for each of its libraries that was loaded."""
    done = run(PROGRAMS[SCRIPTS[0]], tmp_path, OMP_DISPLAY_ENV="VERBOSE")
    assert "nowhere.yaml: no such recipe file" in done.stderr
    told = re.findall(r"(GOMP_SPINCOUNT|KMP_BLOCKTIME)\s*=\s*'(\d+)", done.stderr)
    assert told and set(told) <= set(BOUNDS.items())
