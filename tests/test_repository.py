"""Files that repository hosts read (workflows, forms, citation, changelog) fit their schemas and the project."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from processes import run

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": [ROOT / ".github" / "ISSUE_TEMPLATE" / "numbers-differ.yml"],
    "vendor.github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def complaints(schema: str, files: list[Path]) -> str:
    """Return the checker's messages about files that do not fit their schema, or an empty text if all files fit."""
    done = run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files])
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schema(schema: str) -> None:
    assert SCHEMAS[schema] and not complaints(schema, SCHEMAS[schema])


def test_a_workflow_that_does_not_fit_is_found(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text()
    assert "runs-on: ubuntu-latest" in text
    (tmp_path / "test.yml").write_text(text.replace("runs-on: ubuntu-latest", "runs_on: ubuntu-latest"))
    assert "runs_on" in complaints("vendor.github-workflows", [tmp_path / "test.yml"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_marked_as_untried_and_call_existing_targets(path: Path) -> None:
    text = path.read_text()
    assert "has not run on GitHub" in text[: text.index("name:")].replace("\n# ", " ")
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= TARGETS


def test_every_supported_python_is_tested() -> None:
    versions = re.search(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert versions is not None
    found = [item.strip(' "') for item in versions[1].split(",")]
    assert found == ["3.11", "3.12", "3.13", "3.14"] and PROJECT["requires-python"] == f">={found[0]}"


def test_version_and_date_are_the_same_everywhere() -> None:
    release = re.search(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert release is not None and release[1] == PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {release[1]}\n" in citation and f'\ndate-released: "{release[2]}"\n' in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation
