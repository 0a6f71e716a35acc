"""Validators of JSON Schema; importing them from the library itself costs more than a second.

The library checks formats of identifiers by a package that builds 38 grammars when it is imported. No
schema here has such a format, and the library goes without the package when there is none.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: not to be found

from jsonschema import (  # type: ignore[import-untyped]  # noqa: E402 - ships no types
    Draft7Validator,
    Draft202012Validator,
    FormatChecker,
)

__all__ = ["Draft7Validator", "Draft202012Validator", "FormatChecker"]
