// Hair, neck and clothes moved by the control points of sway: the same formulas as ops/deform.py.

/** Moves means (rows x, y, z of n points) by offsets [C, 2] (metres) of the control points that sheet describes. */
export function sway(means, n, sheet, offsets) {
  const { columns, rows, low_m: low, high_m: high, face_m: face, radii_m: radii, edge } = sheet;
  for (let i = 0; i < n; i++) {
    const x = means[i], y = means[n + i], z = means[2 * n + i];
    const radius = Math.hypot((x - face[0]) / radii[0], (y - face[1]) / radii[1], (z - face[2]) / radii[2]);
    const softness = Math.min(Math.max((radius - 1) / edge, 0), 1);
    if (softness === 0) continue;
    const u = place(x, low[0], high[0], columns), v = place(y, low[1], high[1], rows);
    const column = Math.min(Math.floor(u), columns - 2), row = Math.min(Math.floor(v), rows - 2);
    const a = u - column, b = v - row, first = 2 * (row * columns + column), above = first + 2 * columns;
    for (let axis = 0; axis < 2; axis++) {
      const below = offsets[first + axis] + a * (offsets[first + 2 + axis] - offsets[first + axis]);
      const over = offsets[above + axis] + a * (offsets[above + 2 + axis] - offsets[above + axis]);
      means[axis * n + i] += softness * (below + b * (over - below));
    }
  }
}

/** Where a coordinate lies between the first (0) and the last (count - 1) control point. */
function place(value, low, high, count) {
  return Math.min(Math.max((value - low) / (high - low), 0), 1) * (count - 1);
}
