"""The processor, as far as numerical libraries choose their code by it."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from typing import Any

_CPUINFO = "/proc/cpuinfo"
_CPUINFO_BYTES = 8192  # the first processor's part; all 256 of a large machine take 100 ms
_MODEL_LINES = ("model name", "Model", "Hardware", "CPU part")
_FLAG_LINES = ("flags", "Features")
_CHOOSES = re.compile(
    r"^(sse\w*|ssse3|avx\w*|fma\d?|f16c|amx\w*|bmi[12]|pclmulqdq|vpclmulqdq|vaes|gfni"  # x86-64
    r"|asimd\w*|sve\w*|sme(?!p)\w*|neon|fphp|bf16|i8mm|fcma)$"  # Arm
)


def cpu_facts() -> dict[str, Any]:
    """Return machine, vendor, model, `isa` (the extensions that kernels are chosen by) and usable CPUs.

    `model`, `vendor` and `isa` are what Linux says; elsewhere they are what `platform` knows, or absent.
    """
    facts: dict[str, Any] = {"machine": platform.machine(), "usable": usable_cpus()}
    if sys.platform == "linux":
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - only its beginning is read
            facts |= parse_cpuinfo(file.read(_CPUINFO_BYTES))
    elif platform.processor():
        facts["model"] = platform.processor()
    return facts


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def parse_cpuinfo(text: str) -> dict[str, Any]:
    """The first processor's vendor, model and extensions, of a text as Linux writes /proc/cpuinfo."""
    lines = _fields(text.split("\n\n", 1)[0])
    flags = next((lines[name] for name in _FLAG_LINES if name in lines), "")
    found = {
        "vendor": lines.get("vendor_id") or lines.get("CPU implementer"),
        "model": next((lines[name] for name in _MODEL_LINES if name in lines), None),
        "isa": sorted(flag for flag in flags.split() if _CHOOSES.match(flag)),
    }
    return {name: value for name, value in found.items() if value}


def _fields(text: str) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
