"""The headers of every answer that tell a browser what not to do with it."""

import base64
import hashlib
import re

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DOCS = "https://cdn.jsdelivr.net"  # from where the framework's documentation page takes its scripts

POLICY = "content-security-policy"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    POLICY: _NOTHING,
}
DOCS_POLICY = (
    f"{_NOTHING}; connect-src 'self'; img-src data: https://fastapi.tiangolo.com;"
    f" script-src 'unsafe-inline' {_DOCS}; style-src 'unsafe-inline' {_DOCS}"
)


def page_policy(page: str) -> str:
    """Allows a page the script and the style that stand in it, requests to the service, and nothing else."""
    sources = [f"{tag}-src {' '.join(_hashes(page, tag))}" for tag in ("script", "style")]
    return "; ".join([_NOTHING, "connect-src 'self'", "img-src data:", *sources])


def _hashes(page: str, tag: str) -> list[str]:
    """As browsers want them, of all that stands between `<tag>` and its end."""
    texts = re.findall(rf"(?s)<{tag}>(.*?)</{tag}>", page)
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
