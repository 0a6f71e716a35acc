"""Compiles the modules that every record goes through to native code, by mypyc; the sources stay as they are.

    python deploy/native.py PLACE     # of the tree it is called in, at the same paths below PLACE

As a build hook of hatch, enabled by HATCH_BUILD_HOOK_ENABLE_CUSTOM=1, it puts them into the wheel.
"""

import sys
import sysconfig
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

MODULES = (
    "consumer/domain/*.py",
    "consumer/domain/policies/*.py",
    "consumer/decide.py",
    "consumer/learn.py",
    "consumer/pipeline.py",
    "consumer/step_counts.py",
    "consumer/counting.py",
    "consumer/decision_log.py",
    "consumer/folding.py",
    "consumer/merging.py",
    "consumer/message_reader.py",
    "consumer/wire.py",
    "consumer/store/blocks.py",
    "consumer/store/codec.py",
    "consumer/store/keys.py",
    "consumer/store/redis_delta.py",
    "consumer/stream/inbox.py",
    "consumer/stream/read_record.py",
    "consumer/telemetry/buckets.py",
)
"""What takes most of a worker's time; the rest waits for Kafka, Redis and people."""

# a fused multiplication and addition rounds once, not twice: on processors that have it a decision would
# differ from the one that other workers, or the sources, make
_FLAGS = ("-ffp-contract=off",)


def compile_into(place: Path) -> list[Path]:
    """Compile the modules of the tree in the working directory; give the files, all below `place`.

    Raises:
        SystemExit: The compiler warns, and has said of what.
    """
    sources = [
        str(path)
        for pattern in MODULES
        for path in sorted(Path().glob(pattern))
        if path.name != "__init__.py"
    ]
    with TemporaryDirectory() as scratch:
        said = StringIO()
        try:
            with redirect_stdout(said):
                extensions = mypycify(
                    ["--config-file=pyproject.toml", *sources],
                    opt_level="2",
                    debug_level="0",
                    target_dir=scratch,
                    group_name="consumer",
                )
        finally:
            print(said.getvalue(), end="")
        # such as: a generator expression is a list once it is compiled, be it of all there is
        if " warning: " in said.getvalue():
            raise SystemExit("what is compiled would not do what its source says")
        for extension in extensions:
            extension.extra_compile_args += _FLAGS
        command = build_ext(Distribution({"ext_modules": extensions}))
        command.build_lib, command.build_temp = str(place), scratch
        command.ensure_finalized()
        command.run()
    return sorted(place.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))


class NativeHook(BuildHookInterface[Any]):
    """Makes a wheel of one platform and one Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what goes where; an editable install keeps to the sources."""
        if version == "editable":
            return
        self._made = TemporaryDirectory()
        place = Path(self._made.name)
        for path in compile_into(place):
            build_data["force_include"][str(path)] = str(path.relative_to(place))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, *_: object) -> None:
        """Remove what is in the wheel now."""
        if version != "editable":
            self._made.cleanup()


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
