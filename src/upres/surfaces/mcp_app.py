"""The page that hosts show beside a comparison (MCP Apps): one file, no network. Knows nothing of tools."""

from __future__ import annotations

from pathlib import Path

COMPARE_URI = "ui://upres/compare.html"


def compare_html() -> str:
    return Path(__file__).with_name("compare.html").read_text("utf-8")
