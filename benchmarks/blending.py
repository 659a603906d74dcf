"""How a fit's bases are blended best on a device: Gaussian by Gaussian, or code by code.

    python -m benchmarks.blending --device cuda [--gaussians 20000] [--states 1 4 8] [--json FILE]

Bases are [N, B, f] in a fit, because densification and the optimizer work on Gaussians. "as it is"
is what fits call (``likeness.ops.blend``), on CUDA a tiny product for each Gaussian;
"laid by code" is one product with the same numbers as [B, N f], were they kept so; "laid anew"
copies them so for each step. Forward alone, and with the gradient of the basis. All three give the
same to rounding, which is checked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.device_times import between
from benchmarks.common.figures import Kept, announced, parser, table
from likeness.ops import blend as bases
from likeness.ops.blend import BlendBasis

CODES, FEATURES = 52, 32
_NEAR = 1e-4  # of the largest value


def by_code(table: Tensor, codes: Tensor, count: int) -> Tensor:
    """[*b, N, f] of a table [B, N f] and codes [*b, B]."""
    return (codes @ table).unflatten(-1, (count, -1))


def measure(device: str, count: int, states: int, rounds: int) -> list[dict[str, Any]]:
    """One row for each form: milliseconds of the blend, and of it with its gradient by the
    basis."""
    g = torch.Generator().manual_seed(0)
    basis = torch.randn(count, CODES, FEATURES, generator=g).to(device)
    codes = torch.rand(*((states,) if states > 1 else ()), CODES, generator=g).to(device)
    table = basis.transpose(0, 1).flatten(1).contiguous()
    grad = torch.randn(*codes.shape[:-1], count, FEATURES, generator=g).to(device)
    forms: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
        "as it is": (basis, lambda leaf: BlendBasis.apply(leaf, codes)),
        "laid by code": (table, lambda leaf: by_code(leaf, codes, count)),
        "laid anew": (basis, lambda leaf: by_code(leaf.transpose(0, 1).flatten(1), codes, count)),
    }
    rows, expected = [], bases.blend(basis, codes)
    for name, (tensor, blend) in forms.items():
        leaf = tensor.clone().requires_grad_()
        difference = float((blend(leaf).detach() - expected).abs().max() / expected.abs().max())
        if not difference < _NEAR:
            raise SystemExit(f"{name} differs by {difference:.2g}")

        @torch.no_grad()
        def forward(blend=blend, tensor=tensor) -> None:
            blend(tensor)

        def both(blend=blend, leaf=leaf) -> None:
            leaf.grad = None
            blend(leaf).backward(grad)

        forward_ms, both_ms = between([forward, both], device, rounds)
        rows.append(
            {
                "form": name,
                "gaussians": count,
                "states": states,
                "forward_ms": forward_ms,
                "both_ms": both_ms,
            }
        )
    return rows


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table."""
    titles = ("form", "Gaussians", "states", "blend, ms", "with its gradient, ms")
    keys = ("form", "gaussians", "states")
    times = ("forward_ms", "both_ms")
    lines = [[*(r[k] for k in keys), *(f"{r[k]:.3f}" for k in times)] for r in rows]
    return table(titles, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    add = options.add_argument
    add("--device", choices=["cpu", "cuda"], default="cpu", help="[cpu]")
    add("--gaussians", type=int, nargs="+", default=[20_000], metavar="N", help="[20000]")
    add("--states", type=int, nargs="+", default=[1, 4, 8], metavar="N", help="[1 4 8]")
    add("--rounds", type=int, default=50, metavar="N", help="per figure [50]")
    add("--threads", type=int, default=1, metavar="N", help="of the CPU [1]")
    options = options.parse_args(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    kept = Kept(options.json, machine=announced(device=options.device, threads=options.threads))
    try:
        for count, states in itertools.product(options.gaussians, options.states):
            for row in measure(options.device, count, states, options.rounds):
                kept.add(row)
    finally:
        torch.set_num_threads(before)
    print(f"\n{markdown(kept.rows)}")


if __name__ == "__main__":
    main()
