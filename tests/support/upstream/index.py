"""A package index (PEP 503) with one small package, for the real pip.

Owns the pages and the wheel, which is built when first asked for. The pages of `index.test` point at files on
another host, as they do at the public index; those of any other host at its own, as a private mirror's do.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile

from tests.support.upstream.web import Request, Response

PAGES_HOST, FILES_HOST = "index.test", "files.index.test"
PACKAGE, VERSION = "sample", "1.0"

_WHEEL = f"{PACKAGE}-{VERSION}-py3-none-any.whl"
_FOLDER = f"{PACKAGE}-{VERSION}.dist-info"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def respond(request: Request) -> Response:
    """A page under `/simple/`, or the wheel under `/files/`."""
    match request.target.strip("/").split("/"):
        case ["simple"]:
            return _page(f'<a href="/simple/{PACKAGE}/">{PACKAGE}</a>')
        case ["simple", project] if project == PACKAGE:
            digest = hashlib.sha256(wheel()).hexdigest()
            files = f"https://{FILES_HOST}" if request.header("host") == PAGES_HOST else ""
            return _page(f'<a href="{files}/files/{_WHEEL}#sha256={digest}">{_WHEEL}</a>')
        case ["files", name] if name == _WHEEL:
            return Response(body=wheel(), headers=(("Content-Type", "application/octet-stream"),))
        case _:
            return Response(status="404 Not Found", body=b"no such page\n")


@functools.cache
def wheel() -> bytes:
    """The wheel: one module with one constant, the same bytes every time."""
    files = {
        f"{PACKAGE}.py": 'GREETING = "it works"\n',
        f"{_FOLDER}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n",
        f"{_FOLDER}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{_FOLDER}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {**files, f"{_FOLDER}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return out.getvalue()


def _page(body: str) -> Response:
    text = f"<!DOCTYPE html><html><body>{body}</body></html>"
    return Response(body=text.encode(), headers=(("Content-Type", "text/html"),))
