"""``python -m hack.reference``: write the pages of ``docs/reference`` that are made from the program."""

from hack.reference import PAGES
from hack.reference.markdown import FOLDER

for name, page in PAGES.items():
    (FOLDER / name).write_text(page())
