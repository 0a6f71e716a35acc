"""`make quality`: how well policies choose, beside bandit libraries.

make quality                                # some 15 minutes on two cores
make quality ARGS="--seeds 32"              # a tenth of it
make quality ARGS="--only A --only B"       # some tracks
make quality ARGS="--write-docs"            # and docs/quality.md
python -m quality.page RESULT.json          # the page of one run
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.machine import describe_machine
from lab.measures import Ints
from quality.page import PAGE, as_text, page
from quality.peers import LIBRARIES
from quality.report import measured
from quality.tracks import BY_NAME, TRACKS, Track, play_world
from quality.worlds import World

ROOT = Path(__file__).parent.parent
PEER_PYTHON = ROOT / ".venv-quality" / "bin" / "python"
"""Interpreter of the peers' environment, made by `make quality`."""
_RESULTS = Path(__file__).parent / "results"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="make quality", description="Measure choices.")
    parser.add_argument("--seeds", type=int, default=320, help="worlds of A and B; others by it")
    parser.add_argument("--only", action="append", choices=BY_NAME, help="play only this track")
    parser.add_argument("--no-peers", action="store_true", help="leave the libraries out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write-docs", action="store_true", help="write docs/quality.md")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Play, score, keep, print."""
    began = time.monotonic()
    tracks = [track for track in TRACKS if not options.only or track.name in options.only]
    with TemporaryDirectory() as name:
        folder = Path(name)
        _play(tracks, folder, options)
        peers = folder / "peers.json"
        packages: dict[str, str] = json.loads(peers.read_text()) if peers.exists() else {}
        results = [measured(track, *_load(track, folder)) for track in tracks]
    document = {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": describe_machine(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("meta-strategy-selector", "numpy")},
            **packages,
        },
        "missing": [title for package, title in LIBRARIES.items() if package not in packages],
        "seeds": options.seeds,
        "processes": options.processes,
        "seconds": time.monotonic() - began,
        "load_at_end": os.getloadavg(),
        "tracks": results,
    }
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(as_text(document))
    print(f"raw numbers: {path}")
    if options.write_docs:
        PAGE.write_text(page(document))
        print(f"page: {PAGE}")


def _play(tracks: list[Track], folder: Path, options: argparse.Namespace) -> None:
    tasks = [
        (track.name, seed, folder)
        for track in tracks
        for seed in range(track.worlds(options.seeds))
    ]
    # long worlds first: none is left for the end while the other process has nothing to do
    tasks.reverse()
    with (
        Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress,
        multiprocessing.get_context("spawn").Pool(options.processes) as pool,
    ):
        bar = progress.add_task("policies", total=len(tasks))
        for _ in pool.imap_unordered(play_world, tasks):
            progress.advance(bar)
        if not options.no_peers and PEER_PYTHON.exists():
            bar = progress.add_task("libraries", total=len(tasks))
            for done in _peers(folder, options.processes):
                progress.update(bar, completed=done)


def _peers(folder: Path, parts: int) -> Iterator[int]:
    """Let the peers play all worlds; tell now and then how many are done."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    running = [
        subprocess.Popen(
            [PEER_PYTHON, "-m", "quality.peers", folder, str(part), str(parts)],
            cwd=ROOT,
            env=os.environ | single,
        )
        for part in range(parts)
    ]
    try:
        while any(process.poll() is None for process in running):
            time.sleep(0.5)
            yield sum(1 for _ in folder.glob("*.peers.npz"))
    finally:
        for process in running:
            process.kill()
            process.wait()
    if any(process.returncode for process in running):
        raise RuntimeError("the libraries could not be played; see above")


def _load(
    track: Track, folder: Path
) -> tuple[list[World], list[dict[str, Ints]], Mapping[str, float]]:
    """Read worlds, choices by contestant, and the time of a choice and its reward [us]."""
    worlds, arms = [], []
    times: dict[str, list[float]] = {}
    for path in sorted(folder.glob(f"{track.name}.*.world.npz")):
        found: dict[str, Any] = {}
        for kind in ("product", "peers"):
            other = path.with_name(path.name.replace("world", kind))
            if other.exists():
                with np.load(other) as held:
                    found |= dict(held)
        worlds.append(World.load(path))
        arms.append({name: value for name, value in found.items() if not name.startswith("us:")})
        for name in arms[-1]:
            times.setdefault(name, []).append(float(found[f"us:{name}"]))
    return worlds, arms, {name: float(np.median(all_of)) for name, all_of in times.items()}


if __name__ == "__main__":
    try:
        main(parse(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
