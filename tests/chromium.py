"""The browser in which pages are tried."""

from __future__ import annotations

import os
import shutil

CHROMIUM = os.environ.get("VISIONGRAFT_CHROMIUM") or shutil.which("chromium") or ""
