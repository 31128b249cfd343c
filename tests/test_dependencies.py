"""Versions, licences and the bill of materials name what setup.py asks for; SECURITY.md names tests that exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.repository import REPOSITORY


@pytest.fixture(scope="module")
def dependencies() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("dependencies", REPOSITORY / ".ci" / "dependencies.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their annotations up there.
    sys.modules["dependencies"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["dependencies"]


def pinned() -> dict[str, str]:
    """Versions in constraints.txt, by name."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def listed() -> dict[str, tuple[str, set[str]]]:
    """Licence and extras in docs/dependencies.md, by name."""
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    rows = [re.split(r" \| ", row.strip("| ")) for row in page.splitlines() if row.startswith("| ")][1:]
    return {name: (licence, set(groups.split(", "))) for name, licence, groups in rows}


def test_constraints_name_every_dependency_in_its_range(dependencies: Any) -> None:
    versions = pinned()
    assert list(versions) == sorted(versions) and not any("+" in version for version in versions.values())
    declared = [each for requirements in dependencies.declared().values() for each in requirements]
    assert declared
    for requirement in declared:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} has {version}; make constraints"
        )


def test_licences_are_listed_of_the_same_packages_and_their_extras_are_those_of_setup(dependencies: Any) -> None:
    rows, groups = listed(), dependencies.declared()
    assert list(rows) == list(pinned()), "make constraints writes both anew"
    introduction = (REPOSITORY / "docs" / "dependencies.md").read_text().partition("| package |")[0]
    for name, (licence, _) in rows.items():
        assert licence and (licence != "not stated" or f"`{name}`" in introduction), name
    for group, requirements in groups.items():
        for requirement in requirements:
            named = rows[canonicalize_name(requirement.name)][1]
            assert group in named or "core" in named or group == "dev", requirement
    assert {group for _, named in rows.values() for group in named} <= groups.keys()


def package(dependencies: Any, name: str, *requires: str, **facts: Any) -> Any:
    return dependencies.Package.of({"name": name, "version": "1.0+cu130", "requires_dist": list(requires), **facts})


def test_indirect_dependencies_are_found_with_their_extras(dependencies: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [
        package(dependencies, "A_b", "c", 'd; extra == "more"', 'e; sys_platform == "win32"'),
        package(dependencies, "c", "a.b"),
        package(dependencies, "d", "f[x]"),
        package(dependencies, "f", 'g; extra == "x"', 'h; extra == "y"'),
        *(package(dependencies, name) for name in "egh"),
    ]
    monkeypatch.setattr(dependencies, "installed", lambda: {each.name: each for each in every})
    groups = {"core": [Requirement("a-b")], "big": [Requirement("a.b[more]")]}
    found = {each.name: each.needed_by for each in dependencies.collect(groups)}
    assert found == {"a-b": {"core", "big"}, "c": {"core", "big"}, "d": {"big"}, "f": {"big"}, "g": {"big"}}
    assert dependencies.constraints(every[:1]).splitlines()[-1] == "a-b==1.0"


@pytest.mark.parametrize(
    ("facts", "licence"),
    [
        ({"license_expression": "MIT OR Apache-2.0", "license": "x"}, "MIT OR Apache-2.0"),
        ({"classifier": ["License :: OSI Approved", "License :: OSI Approved :: MIT License"]}, "MIT License"),
        ({"classifier": ["Topic :: X"], "license": "\nBSD-3-Clause\nCopyright"}, "BSD-3-Clause"),
        ({"license": "UNKNOWN"}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_licences_are_read_from_metadata(dependencies: Any, facts: dict[str, Any], licence: str) -> None:
    assert dependencies.licence_of(facts) == licence


def test_the_bill_of_materials_has_what_cyclonedx_requires(dependencies: Any) -> None:
    packages = [package(dependencies, "a", "b"), package(dependencies, "b", 'c; extra == "x"')]
    packages[0].needed_by = {"core", "lm"}
    bill = json.loads(json.dumps(dependencies.bill(packages)))
    assert bill == dependencies.bill(packages)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert bill["serialNumber"] == uuid.UUID(bill["serialNumber"]).urn
    references = [bill["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in bill["components"])]
    assert len(set(references)) == len(references) == 3
    for each in bill["components"]:
        assert each["type"] == "library" and each["name"] and each["version"] == "1.0"
        assert each["purl"] == f"pkg:pypi/{each['name']}@1.0" and each["licenses"][0]["license"]["name"]
    edges = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert edges["a"] == ["b"] and edges["b"] == []


def test_every_promise_of_security_names_tests_that_exist() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("| ")][1:]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            tree = ast.parse((REPOSITORY / path).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)
