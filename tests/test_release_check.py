"""What `make release` finds wrong."""

import shutil
from pathlib import Path

import pytest

from hack.release import PLACES, TOP, version, wrong


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A copy of the files that name the version, released as 9.9.9."""
    for name, _ in PLACES:
        if (TOP / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            text = (TOP / name).read_text().replace(version(), "9.9.9")
            (tmp_path / name).write_text(text)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 9.9.9\n\n### Upgrade notes\n- None.\n\n## 0.1.0\n"
    )
    (tmp_path / "tests" / "upgrade" / "9.9.9").mkdir(parents=True)
    (tmp_path / "tests" / "upgrade" / "9.9.9" / "state.json").write_text("{}")
    return tmp_path


def test_a_release_is_named_alike_everywhere(top: Path):
    assert list(wrong(top, "9.9.9")) == []


def test_today_s_files_agree_but_for_the_changelog():
    assert [problem for problem in wrong(TOP, version()) if not problem.startswith("CHANGELOG")] == []


@pytest.mark.parametrize("name", [name for name, _ in PLACES if (TOP / name).exists()])
def test_a_file_that_names_another_version_is_named(top: Path, name: str):
    file = top / name
    file.write_text(file.read_text().replace("9.9.9", "9.9.8"))
    assert list(wrong(top, "9.9.9")) == [f"{name} names 9.9.8, not 9.9.9"]


def test_a_release_says_what_an_upgrade_needs(top: Path):
    (top / "CHANGELOG.md").write_text("## 9.9.9\n\n### Fixed\n\n## 0.1.0\n\n### Upgrade notes\n")
    shutil.rmtree(top / "tests" / "upgrade" / "9.9.9")
    assert list(wrong(top, "9.9.9")) == [
        "CHANGELOG.md says nothing about the upgrade: '### Upgrade notes' below '## 9.9.9'",
        "tests/upgrade/9.9.9 is missing: python -m tests.upgrade.record here",
    ]
