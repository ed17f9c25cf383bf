"""The floor: what gunicorn itself can do. One answer, given over and over.

FLOOR_ANSWER is a file with what the site answered once: JSON of headers and body.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_told = json.loads(Path(os.environ["FLOOR_ANSWER"]).read_text())
HEADERS = [(name, value) for name, value in _told["headers"]]
BODY = _told["body"].encode()


def application(
    environ: dict[str, Any], start_response: Callable[..., object]
) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [BODY]
