"""Scripts as the command line runs them, and what they left."""

import json
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    """The exit code of a script that runs in this process."""
    before, sys.argv = sys.argv, [script, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0


def explored(page):
    """The names of the surfaces in a page of the explorer."""
    content = re.search(r'id="content">(.*?)</script>', Path(page).read_text("utf-8"), re.DOTALL)[1]
    return [surface["name"] for surface in json.loads(content)["surfaces"]]


def stamps(folder):
    """When each result was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*.npz")}
