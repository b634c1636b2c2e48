"""The docs as a site: each link of each page leads somewhere, nothing is loaded from outside."""

import re
from pathlib import Path

import pytest

from hack.site import build, sections
from tests.pages import TOP, pages


def test_the_menu_has_each_page_of_docs():
    listed = {
        path for section in sections() for pages in section.values() for row in pages for path in row.values()
    }
    assert {path for path in pages() if re.fullmatch(r"docs/[^/]+", path)} - listed == {"docs/README.md"}
    assert all((TOP / path).is_file() for path in listed)


@pytest.mark.full
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_outside(tmp_path: Path):
    build(tmp_path / "site")
    html = [file.read_text() for file in (tmp_path / "site").rglob("*.html")]
    assert len(html) > len(pages()) / 2
    loaded = [
        found
        for text in html
        for found in re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="?(https?:[^">]*)', text)
    ]
    assert loaded == []
