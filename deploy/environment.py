"""Make the environment of `make`; anew, when it is of another Python than the one that runs this.

python deploy/environment.py DIRECTORY [GOALS]

It has to run on older Pythons, too, to say that they are the wrong ones.
"""

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def required():
    """Give what pyproject.toml says of the Python; what is too old may know no TOML."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^requires-python = "(.*)"$', project, re.MULTILINE).group(1)


def refusal(requires, version, goals, is_there):
    """Say which Python is wanted; nothing when it is this one."""
    least, beyond = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", requires).groups())
    if (3, least) <= version < (3, beyond):
        return ""
    names = [f"python3.{minor}" for minor in reversed(range(least, beyond))]
    other = next(filter(is_there, names), names[0])
    call = " ".join(["make", *goals.split(), f"PYTHON={other}"])
    return f"needs Python 3.{least} to 3.{beyond - 1}, this is {told(version)}: {call}"


def told(version):
    return ".".join(map(str, version))


def found_in(directory):
    """Give the version of an environment; nothing when it cannot be used."""
    try:
        config = (directory / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^version(?:_info)? = (\d+)\.(\d+)", config, re.MULTILINE)
    # its Python may have gone, and without pip it was left half made
    if not version or not all((directory / "bin" / name).exists() for name in ("python", "pip")):
        return None
    return tuple(map(int, version.groups()))


def main(directory, goals=""):
    version = sys.version_info[:2]
    problem = refusal(required(), version, goals, shutil.which)  # no walrus: 3.7 is told, too
    if problem:
        sys.exit(problem)
    before = found_in(Path(directory))
    if before == version:
        return
    instead = f" instead of {told(before)}" if before else ""
    print(f"{directory}: Python {told(version)}{instead}", flush=True)
    # by the command line: it links the interpreter, where the module's function would copy it
    os.execv(sys.executable, [sys.executable, "-m", "venv", "--clear", directory])


if __name__ == "__main__":
    main(*sys.argv[1:])
