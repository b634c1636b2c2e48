"""``python -m hack.site [FOLDER]``: the docs as a site, in ``build/site`` by default."""

import sys
from pathlib import Path

from hack.local.binaries import Unavailable
from hack.site import TOP, build

target = Path(sys.argv[1]) if len(sys.argv) > 1 else TOP / "build" / "site"
try:
    build(target)
except Unavailable as error:
    sys.exit(str(error))
print(f"{target}/index.html")
