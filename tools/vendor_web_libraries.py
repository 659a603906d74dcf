"""Rebuilds export/web/vendor: the parts of three.js and Spark that the exported page uses, as one
file.

Only for those who change their versions; exporting an avatar needs neither this nor node. Needs
node, npm and the network. The pinned versions give the very file that is in the repository.

    python tools/vendor_web_libraries.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "export" / "web" / "vendor"
PACKAGES = {
    "three": "0.180.0",
    "@sparkjsdev/spark": "2.2.0",
    "fflate": "0.8.2",
    "esbuild": "0.25.10",
}
LICENSED = {"three": "LICENSE", "@sparkjsdev/spark": "LICENSE", "fflate": "LICENSE"}
ENTRY = """
export { Color, Matrix4, PerspectiveCamera, Scene, WebGLRenderer } from "three";
export { PackedSplats, SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
"""


def main() -> int:
    """Installs the packages into a temporary folder, bundles them and writes the result and its
    licences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "package.json").write_text('{"private": true}')
        packages = [f"{package}@{version}" for package, version in PACKAGES.items()]
        _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *packages], folder)
        (folder / "entry.js").write_text(ENTRY)
        options = [
            "--bundle",
            "--format=esm",
            "--minify",
            "--target=es2022",
            "--legal-comments=none",
        ]
        _run(
            ["node_modules/.bin/esbuild", "entry.js", *options, "--outfile=three-spark.min.js"],
            folder,
        )
        VENDOR.mkdir(parents=True, exist_ok=True)
        (VENDOR / "three-spark.min.js").write_bytes((folder / "three-spark.min.js").read_bytes())
        (VENDOR / "LICENSES.txt").write_text(_licenses(folder), encoding="utf-8")
    print(f"{VENDOR}: {sum(path.stat().st_size for path in VENDOR.iterdir()) / 1e6:.1f} MB")
    return 0


def _licenses(folder: Path) -> str:
    texts = [
        f"{name} {PACKAGES[name]}\n\n"
        f"{(folder / 'node_modules' / name / file).read_text(encoding='utf-8').strip()}\n"
        for name, file in LICENSED.items()
    ]
    return "three-spark.min.js is built from the packages below.\n\n" + (
        "\n" + "-" * 72 + "\n\n"
    ).join(texts)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command[:2])}: {result.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
