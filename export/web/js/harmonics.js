// Real spherical harmonics to degree 3, in the order and signs of 3D Gaussian splatting (as ops/harmonics.py).

const C2 = [1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396];
const C3 = [-0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154, -0.4570457994644658,
  1.445305721320277, -0.5900435899266435];

/** Writes the (degree + 1)² harmonics at a unit direction. */
export function basis(degree, x, y, z, out) {
  out[0] = 0.28209479177387814;
  if (degree < 1) return;
  out[1] = -0.4886025119029199 * y; out[2] = 0.4886025119029199 * z; out[3] = -0.4886025119029199 * x;
  if (degree < 2) return;
  const xx = x * x, yy = y * y, zz = z * z;
  out[4] = C2[0] * x * y; out[5] = C2[1] * y * z; out[6] = C2[2] * (2 * zz - xx - yy);
  out[7] = C2[3] * x * z; out[8] = C2[4] * (xx - yy);
  if (degree < 3) return;
  out[9] = C3[0] * y * (3 * xx - yy); out[10] = C3[1] * x * y * z; out[11] = C3[2] * y * (4 * zz - xx - yy);
  out[12] = C3[3] * z * (2 * zz - 3 * xx - 3 * yy); out[13] = C3[4] * x * (4 * zz - xx - yy);
  out[14] = C3[5] * z * (xx - yy); out[15] = C3[6] * x * (xx - 3 * yy);
}

/**
 * The matrix [K][K] that turns coefficients with a rotation (nine numbers, row by row), from sample directions [3, S]
 * and the pseudo-inverse [K, S] of the harmonics there: the harmonics at turned directions, solved for coefficients.
 */
export function turnMatrix(degree, rotation, samples, solve) {
  const count = samples.columns, K = solve.rows, values = new Float64Array(K), matrix = new Float64Array(K * K);
  for (let s = 0; s < count; s++) {
    const d = [0, 1, 2].map((axis) => samples.values[axis * count + s]);
    const turned = [0, 1, 2].map((c) => d[0] * rotation[c] + d[1] * rotation[3 + c] + d[2] * rotation[6 + c]);
    basis(degree, ...turned, values);
    for (let a = 0; a < K; a++) {
      for (let b = 0; b < K; b++) matrix[a * K + b] += solve.values[a * count + s] * values[b];
    }
  }
  return matrix;
}
