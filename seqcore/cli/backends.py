"""`seqcore backends`: which backends there are, what they can do, and what is wrong with others."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from seqcore.cli import common
from seqcore.cli.config import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seqcore.cli.common import Subparsers
    from seqcore.spi import Backend
    from seqcore.spi.registration import BackendSpec, Option


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "backends",
        "list the backends, what they can do, and broken ones with the reason",
        "Lists every registered backend. Frameworks are slow to import, so devices, data types "
        "and\nfeatures are shown of backends whose framework is loaded anyway (NumPy); --load "
        "asks them all.",
        "seqcore backends\nseqcore backends --load\nseqcore backends --load --json",
    )
    parser.add_argument(
        "--load", action="store_true", help="load every installed backend and ask what it can do"
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print what is known of every backend. One that is broken stops no other."""
    from seqcore.registry import registry

    # Nobody has asked for what the backends may print.
    with contextlib.redirect_stdout(sys.stderr):
        described = [describe(name, load=args.load) for name in registry.names()]
    data = {
        "backends": described,
        "problems": [
            {"name": p.name, "distribution": p.distribution, "reason": p.reason}
            for p in registry.problems()
        ],
        "remarks": [
            {"name": r.name, "distribution": r.distribution, "reason": r.reason}
            for r in registry.remarks()
        ],
    }
    if args.json:
        common.print_json(data)
    else:
        _print(data)
    return 0


def describe(name: str, *, load: bool) -> dict[str, Any]:
    """Return what is known of one backend; `load` says whether its framework may be imported."""
    from seqcore.registry import COMMON_OPTIONS, registry

    spec = registry.spec(name)
    missing = registry.missing(name)
    data: dict[str, Any] = {
        "name": name,
        "summary": spec.summary,
        "distribution": registry.distribution(name),
        "installed": not missing,
        "missing": list(missing),
        "install": spec.install_hint or None,
        "loaded": False,
        "version": _released_as(spec),
        "devices": None,
        "dtypes": None,
        "features": None,
        "problem": None,
        "options": _options({**COMMON_OPTIONS, **spec.options}),
    }
    if not missing and (load or _costs_nothing(spec)):
        try:
            data |= _asked(registry.get(name)) | {"loaded": True}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
            data["problem"] = str(error)
    return data


def _released_as(spec: BackendSpec) -> str | None:
    """Return the version of the first distribution named like a module that is required."""
    from importlib.metadata import PackageNotFoundError, version

    for module in spec.requires:
        try:
            return version(module)
        except PackageNotFoundError:
            continue
    return None


def _costs_nothing(spec: BackendSpec) -> bool:
    """Return whether all that the backend requires is imported already."""
    return all(module in sys.modules for module in spec.requires)


def _asked(backend: Backend) -> dict[str, Any]:
    from seqcore.spec.dtypes import DTYPES
    from seqcore.spi.request import FEATURES
    from seqcore.spi.soundness import devices_of, version_of

    declared = backend.capabilities
    return {
        "version": version_of(backend),
        "devices": list(devices_of(backend)),
        "dtypes": [dtype for dtype in DTYPES if declared.reason(dtype) is None],
        "features": {
            name: {
                "support": declared.support(name),
                "reason": declared.reason(name),
                "meaning": meaning,
            }
            for name, meaning in FEATURES.items()
            if name not in DTYPES
        },
    }


def _options(options: Mapping[str, Option]) -> dict[str, Any]:
    return {
        name: {
            "type": option.type,
            "default": option.default,
            "choices": list(option.choices),
            "help": option.help,
        }
        for name, option in options.items()
    }


def _print(data: dict[str, Any]) -> None:
    for backend in data["backends"]:
        _print_backend(backend)
    for problem in data["problems"]:
        print(f"{problem['name']}: BROKEN, from {problem['distribution']}: {problem['reason']}")
    for remark in data["remarks"]:
        print(f"{remark['name']}: REMARK, from {remark['distribution']}: {remark['reason']}")


def _print_backend(backend: dict[str, Any]) -> None:
    print(f"{backend['name']}: {_state(backend)}")
    if backend["summary"]:
        print(f"  {backend['summary']}")
    if backend["loaded"]:
        print(f"  devices: {', '.join(backend['devices'])}")
        print(f"  dtypes: {', '.join(backend['dtypes'])}")
        for name, feature in backend["features"].items():
            reason = f": {feature['reason']}" if feature["reason"] else f" ({feature['meaning']})"
            print(f"  {feature['support'].replace('-', ' '):15} {name}{reason}")
    for name, option in backend["options"].items():
        choices = f", one of {', '.join(option['choices'])}" if option["choices"] else ""
        default = shown(option["default"])
        print(f"  option {name} = {default}: {option['help']}{choices}")
    print()


def _state(backend: dict[str, Any]) -> str:
    if not backend["installed"]:
        install = f"; install it: {backend['install']}" if backend["install"] else ""
        return f"not installed, missing {', '.join(backend['missing'])}{install}"
    if backend["problem"]:
        return f"BROKEN: {backend['problem']}"
    if backend["loaded"]:
        return f"installed, version {backend['version']}"
    version = f", version {backend['version']}" if backend["version"] else ""
    return f"installed{version} (seqcore backends --load shows what it can do)"
