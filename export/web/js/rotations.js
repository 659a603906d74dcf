// Rotations and poses. Quaternions are wxyz. A pose is seven numbers: quaternion, translation in metres; it maps its own
// frame to the frame that its name says first (head_body maps the body's frame to the head's).

export const IDENTITY = [1, 0, 0, 0, 0, 0, 0];

export function multiply(a, b) {
  return [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
  ];
}

export function conjugate(q) {
  return [q[0], -q[1], -q[2], -q[3]];
}

export function normalized(q) {
  const length = Math.hypot(q[0], q[1], q[2], q[3]) || 1;
  return [q[0] / length, q[1] / length, q[2] / length, q[3] / length];
}

/** Unit quaternion with w >= 0. */
export function canonical(q) {
  const unit = normalized(q);
  return unit[0] < 0 ? unit.map((v) => -v) : unit;
}

export function fromRotvec(v) {
  const angle = Math.hypot(v[0], v[1], v[2]);
  const factor = angle < 1e-6 ? 0.5 : Math.sin(angle / 2) / angle;
  return normalized([Math.cos(angle / 2), v[0] * factor, v[1] * factor, v[2] * factor]);
}

/** Rotation vector of length at most pi. */
export function toRotvec(q) {
  const [w, x, y, z] = q[0] < 0 ? q.map((v) => -v) : q;
  const sine = Math.hypot(x, y, z);
  const factor = sine < 1e-6 ? 2 : (2 * Math.atan2(sine, w)) / sine;
  return [x * factor, y * factor, z * factor];
}

/** The rotation matrix, row by row. */
export function toMatrix(q) {
  const [w, x, y, z] = q;
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
  ];
}

/** Quaternion of a rotation matrix given row by row. */
export function fromMatrix(m) {
  const t = [1 + m[0] + m[4] + m[8], 1 + m[0] - m[4] - m[8], 1 - m[0] + m[4] - m[8], 1 - m[0] - m[4] + m[8]];
  const a = m[7] - m[5], b = m[2] - m[6], c = m[3] - m[1];
  const d = m[3] + m[1], e = m[2] + m[6], f = m[7] + m[5];
  const rows = [[t[0], a, b, c], [a, t[1], d, e], [b, d, t[2], f], [c, e, f, t[3]]];
  return canonical(rows[t.indexOf(Math.max(...t))]);
}

export function rotated(q, v) {
  const m = toMatrix(q);
  return [0, 3, 6].map((r) => m[r] * v[0] + m[r + 1] * v[1] + m[r + 2] * v[2]);
}

/** The pose a after the pose b. */
export function composed(a, b) {
  const t = rotated(a, b.slice(4));
  return [...multiply(a, b), t[0] + a[4], t[1] + a[5], t[2] + a[6]];
}

export function inverted(pose) {
  const q = conjugate(pose);
  return [...q, ...rotated(q, pose.slice(4)).map((v) => -v)];
}

/** The pose of a rigid transform given as four rows of four. */
export function fromTransform(T) {
  const rotation = [...T[0].slice(0, 3), ...T[1].slice(0, 3), ...T[2].slice(0, 3)];
  return [...fromMatrix(rotation), T[0][3], T[1][3], T[2][3]];
}

/** Between two poses: translations linear, rotations by the normalised mean. */
export function blended(a, b, share) {
  const sign = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] < 0 ? -1 : 1;
  const q = normalized([0, 1, 2, 3].map((i) => a[i] * (1 - share) + sign * b[i] * share));
  return [...q, ...[4, 5, 6].map((i) => a[i] * (1 - share) + b[i] * share)];
}
