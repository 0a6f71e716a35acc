"""What the numbers were measured on."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from redis.asyncio import Redis

_ROOT = Path(__file__).parent.parent
_LIBRARIES = ("aiokafka", "redis", "hiredis", "orjson", "pydantic", "uvloop")


def describe_machine() -> dict[str, str | int | float]:
    """Give processor, cores, memory and system."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(page * pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


async def describe_versions(redis_url: str) -> dict[str, str]:
    """Give the versions of all that takes part."""
    found = {"python": platform.python_version()}
    found |= {name: version(name) for name in _LIBRARIES}
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        server = await redis.info("server")
    found["redis server"] = str(server.get("valkey_version") or server.get("redis_version"))
    found["commit"] = _commit()
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def supported() -> str | None:
    """Say why this machine cannot be measured; None when it can."""
    if not sys.platform.startswith("linux"):
        return "CPU time and memory are read from /proc: the benchmark runs on Linux"
    return None
