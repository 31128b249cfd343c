#!/usr/bin/env python3
"""List what this package depends on, directly or not, with the versions and licences of the running environment.

python .ci/dependencies.py                  # write constraints.txt and docs/dependencies.md
python .ci/dependencies.py --sbom FILE      # write a bill of materials (CycloneDX 1.6, JSON)

Everything comes from setup.py and from the metadata of installed packages. For packages that are not installed, such as
those of the extra `storage`, pip is asked for the newest version, but not for what they bring; only that needs a
network.
"""

from __future__ import annotations

import argparse
import json
import runpy
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
CONSTRAINTS, TABLE = REPOSITORY / "constraints.txt", REPOSITORY / "docs" / "dependencies.md"
CORE = "core"
"""Stands for no extra, in the table."""

HEAD = """\
# Versions that the tests ran with: pip install -c constraints.txt 'biglittle-asr[serve]'
# Made by `make constraints` from the installed packages; see CONTRIBUTING.md.
"""
PAGE = """\
# Dependencies

All packages that `pip install biglittle-asr` and its extras bring on Linux, also indirectly, with their licences as
their own metadata says; of the extra `storage`, only those that setup.py names. `make constraints` writes this page and
`constraints.txt`, which has the versions. The extra `dev` is for tests only.

The packages `nvidia-*` and `cuda-*` come with PyTorch's wheels for GPUs, under NVIDIA's terms; its wheels for the CPU
do without them. Two packages state no licence: `cuda-toolkit`, which only names others, and `espeakng-loader`, which
holds eSpeak NG (GPL-3.0-or-later).

`make sbom` writes the same list as a bill of materials (CycloneDX 1.6, JSON) to `results/sbom.json`.

| package | licence | needed by |
|---|---|---|
"""
ONLY_NAMED = frozenset({"storage"})
"""Extras of packages that tests do without: what they bring is not listed."""
CLASSIFIER = "License :: "
LONGEST_LICENCE = 60
"""Longer texts in the field License are whole licences; their first line names them."""


@dataclass
class Package:
    """A package that this one depends on."""

    name: str
    """Canonical name."""
    version: str
    """Without a local suffix such as +cu130, which package indices do not have."""
    licence: str
    requires: list[Requirement]
    needed_by: set[str] = field(default_factory=set)
    """Extras of setup.py, and `CORE`."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Package:
        """Read metadata, as `importlib.metadata` and pip's report have it in JSON."""
        requires = [Requirement(each) for each in facts.get("requires_dist", [])]
        return cls(canonicalize_name(facts["name"]), Version(facts["version"]).public, licence_of(facts), requires)

    def needs(self) -> set[str]:
        """Names of the packages that it always needs here."""
        return {canonicalize_name(each.name) for each in self.requires if is_needed(each, "")}


def licence_of(facts: Mapping[str, Any]) -> str:
    """The licence that metadata names: the expression, else the classifiers, else the field License."""
    if facts.get("license_expression"):
        return str(facts["license_expression"])
    named = [each.split(" :: ")[-1] for each in facts.get("classifier", []) if each.startswith(CLASSIFIER)]
    named = [each for each in named if each != "OSI Approved"]
    if named:
        return ", ".join(sorted(set(named)))
    lines = [line.strip() for line in str(facts.get("license", "")).splitlines() if line.strip()]
    return lines[0][:LONGEST_LICENCE] if lines and lines[0].upper() != "UNKNOWN" else "not stated"


def arguments_of_setup() -> dict[str, Any]:
    """What setup.py says."""
    given: dict[str, Any] = {}
    with mock.patch.object(setuptools, "setup", lambda **keywords: given.update(keywords)):
        runpy.run_path(str(REPOSITORY / "setup.py"))
    return given


def declared() -> dict[str, list[Requirement]]:
    """Requirements of setup.py, by extra; those without an extra under `CORE`."""
    given = arguments_of_setup()
    groups = {CORE: given["install_requires"], **given["extras_require"]}
    return {name: [Requirement(each) for each in texts] for name, texts in groups.items()}


def collect(groups: Mapping[str, Iterable[Requirement]]) -> list[Package]:
    """All packages that requirements bring, sorted by name."""
    packages = here = installed()
    missing = [
        str(each)
        for requirements in groups.values()
        for each in requirements
        if canonicalize_name(each.name) not in packages
    ]
    if missing:
        packages = {**newest(missing, here), **here}
    for group, requirements in groups.items():
        waiting, seen = [each for each in requirements if is_needed(each, "")], set()
        while waiting:
            requirement = waiting.pop()
            package = packages.get(canonicalize_name(requirement.name))
            if package is None and group in ONLY_NAMED:
                continue
            if package is None:
                raise SystemExit(f"{requirement.name}: is not installed; run pip install -e '.[dev,demo]' first.")
            package.needed_by.add(group)
            for extra in ("", *sorted(requirement.extras)):
                if (package.name, extra) not in seen:
                    seen.add((package.name, extra))
                    waiting += [each for each in package.requires if is_needed(each, extra)]
    return sorted((each for each in packages.values() if each.needed_by), key=lambda package: package.name)


def is_needed(requirement: Requirement, extra: str) -> bool:
    """Whether a package asks for a requirement here, as part of an extra of its own or, without one, always."""
    marker = requirement.marker
    if marker is None:
        return extra == ""
    always = marker.evaluate({"extra": ""})
    return always if extra == "" else marker.evaluate({"extra": extra}) and not always


def installed() -> dict[str, Package]:
    """Packages of the running environment by canonical name."""
    found: dict[str, Package] = {}
    for distribution in metadata.distributions():
        package = Package.of({"requires_dist": [], **distribution.metadata.json})
        # The first on the path is the one that is imported.
        found.setdefault(package.name, package)
    return found


def newest(missing: Iterable[str], here: Mapping[str, Package]) -> dict[str, Package]:
    """The newest versions, by canonical name, that satisfy requirements.

    Raises
    ------
    SystemExit
        If one does not fit the installed packages.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", "--report", str(report)]
        subprocess.run([*command, *missing], check=True)
        found = [Package.of(each["metadata"]) for each in json.loads(report.read_text())["install"]]
    for package in found:
        for each in package.requires:
            other = here.get(canonicalize_name(each.name))
            if (
                other is not None
                and is_needed(each, "")
                and not each.specifier.contains(other.version, prereleases=True)
            ):
                raise SystemExit(
                    f"{package.name} {package.version}: asks for {each}, but {other.version} is installed."
                )
    return {package.name: package for package in found}


def constraints(packages: Iterable[Package]) -> str:
    """The content of constraints.txt."""
    return HEAD + "".join(f"{package.name}=={package.version}\n" for package in packages)


def page(packages: Iterable[Package]) -> str:
    """The content of docs/dependencies.md."""
    rows = []
    for package in packages:
        groups = [CORE] if CORE in package.needed_by else sorted(package.needed_by - {"dev"}) or ["dev"]
        rows.append(f"| {package.name} | {package.licence.replace('|', '/')} | {', '.join(groups)} |\n")
    return PAGE + "".join(rows)


def bill(packages: Iterable[Package]) -> dict[str, Any]:
    """A CycloneDX 1.6 bill of materials; the same packages give the same bill."""
    packages = list(packages)
    given = arguments_of_setup()
    own = {"type": "library", "bom-ref": given["name"], "name": given["name"], "version": given["version"]}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, constraints(packages))
    direct = sorted({canonicalize_name(each.name) for group in declared().values() for each in group})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": own},
        "components": [
            {
                "type": "library",
                "bom-ref": package.name,
                "name": package.name,
                "version": package.version,
                "purl": f"pkg:pypi/{package.name}@{package.version}",
                "licenses": [{"license": {"name": package.licence}}],
                "properties": [{"name": "biglittle:extra", "value": group} for group in sorted(package.needed_by)],
            }
            for package in packages
        ],
        "dependencies": [
            {"ref": given["name"], "dependsOn": direct},
            *(
                {"ref": package.name, "dependsOn": sorted(package.needs() & {each.name for each in packages})}
                for package in packages
            ),
        ],
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="write a bill of materials, and nothing else")
    options = parser.parse_args()
    packages = collect(declared())
    if options.sbom is not None:
        options.sbom.parent.mkdir(parents=True, exist_ok=True)
        options.sbom.write_text(json.dumps(bill(packages), indent=1) + "\n", encoding="utf-8")
        return
    CONSTRAINTS.write_text(constraints(packages), encoding="utf-8")
    TABLE.write_text(page(packages), encoding="utf-8")


if __name__ == "__main__":
    main()
