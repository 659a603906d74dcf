"""Writes the SHA-256 of every wheel that may be installed into the lock files: `python
tools/lock_hashes.py`, or of one of them: `python tools/lock_hashes.py requirements-dev.lock`.

Versions are changed by hand in requirements*.lock; then this asks pip, for each Python and platform
that the project supports, which wheel it would install, and puts the hashes of those wheels below
their line. It takes the package sources that pip is configured with, downloads no wheel (pip 24.2
or later, which reads their metadata alone), and changes a file only when every wheel of it was
found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup_environment import CPU_WHEELS, LOCK, LOCK_CPU, LOCK_CUDA, LOCK_DEV, SUPPORTED

# torch's wheels need glibc 2.28 or macOS 14, so that whatever pip chooses for these also suits
# every later system.
_GLIBC = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
_LINUX = [
    *_GLIBC,
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
]
_PLATFORMS = {
    "linux": (
        _LINUX,
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    ),
    "macos": (
        ["macosx_14_0_arm64"],
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    ),
}
_LOCKS = {  # platforms, and pip's options
    LOCK: (("linux", "macos"), []),
    LOCK_CPU: (("linux",), ["--index-url", CPU_WHEELS]),
    LOCK_CUDA: (("linux",), []),
    LOCK_DEV: (("linux", "macos"), []),
}
_HASH = re.compile(r"\s*\\?\n\s+--hash=sha256:[0-9a-f]+")


def main() -> int:
    chosen = [lock for lock in _LOCKS if lock.name in sys.argv[1:] or not sys.argv[1:]]
    failed = [lock.name for lock in chosen if not renew(lock, *_LOCKS[lock])]
    if failed:
        print(f"error: left as they were: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


def renew(lock: Path, platforms: tuple[str, ...], options: list[str]) -> bool:
    """Rewrites the hashes of one lock file; False, and nothing written, where a wheel is not
    found."""
    lines = _HASH.sub("", lock.read_text(encoding="utf-8")).splitlines()
    hashes: dict[str, set[str]] = {}
    for platform in platforms:
        for python in (".".join(map(str, version)) for version in SUPPORTED):
            wanted = [
                line
                for line in lines
                if line and line[0] != "#" and applies(line, python, platform)
            ]
            print(
                f"{lock.name}: Python {python} on {platform}, {len(wanted)} packages ...",
                flush=True,
            )
            if not resolve(wanted, python, platform, options, hashes):
                return False
    text = "".join(
        line
        + "".join(
            f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes.get(key(line), ()))
        )
        + "\n"
        for line in lines
    )
    lock.write_text(text, encoding="utf-8")
    return True


def applies(line: str, python: str, platform: str) -> bool:
    """Whether a line of a lock file is for this Python and platform."""
    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"python_version": python, **_PLATFORMS[platform][1]})


def key(line: str) -> str:
    """Name and version of a line of a lock file; "" for a comment or an empty one."""
    if not line or line[0] == "#":
        return ""
    requirement = Requirement(line)
    return f"{canonicalize_name(requirement.name)}{requirement.specifier}"


def resolve(
    lines: list[str], python: str, platform: str, options: list[str], hashes: dict[str, set[str]]
) -> bool:
    """Adds the SHA-256 of the wheels that pip would install to ``hashes``, by name and version."""
    with tempfile.TemporaryDirectory() as folder:
        requirements, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        requirements.write_text("\n".join(line.split(";")[0] for line in lines), encoding="utf-8")
        tags = [word for tag in _PLATFORMS[platform][0] for word in ("--platform", tag)]
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-qq",
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
        ]
        command += [
            "--only-binary=:all:",
            "--python-version",
            python,
            *tags,
            "--target",
            folder,
            *options,
        ]
        if subprocess.call([*command, "--report", str(report), "-r", str(requirements)]) != 0:
            return False
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    installed = {}
    for item in installs:
        version = f"{canonicalize_name(item['metadata']['name'])}=={item['metadata']['version']}"
        installed[version] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    # such as the CPU build of a configured folder of wheels
    if other := sorted(installed.keys() ^ set(map(key, lines))):
        print(f"another build than the locked one was found: {', '.join(other)}", file=sys.stderr)
        return False
    for version, digest in installed.items():
        hashes.setdefault(version, set()).add(digest)
    return True


if __name__ == "__main__":
    sys.exit(main())
