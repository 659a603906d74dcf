// Spark's PackedSplats: 16 bytes a Gaussian. Word 0: red, green, blue, opacity in 8 bits. Words 1, 2: the mean as half
// floats, and 16 bits of the rotation. Word 3: logarithms of the sizes in 8 bits, and the rotation's last 8 bits.
// The rotation is its axis on an octahedron (8 + 8 bits) and its angle (8 bits).

const LOG_LOW = -12, LOG_STEPS = 254 / 21; // Spark's own range of log-sizes: -12 to 9
export const ROW = 2048; // Gaussians in a row of Spark's textures

export function packedLength(count) {
  return 4 * ROW * Math.ceil(count / ROW);
}

const float = new Float32Array(1), bits = new Uint32Array(float.buffer);

/** The half float nearest to a number of magnitude below 65504. */
export function half(value) {
  float[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000, magnitude = bits[0] & 0x7fffffff;
  if (magnitude < 0x38800000) return sign | Math.round(Math.abs(value) * 16777216);
  return sign | ((magnitude - 0x38000000 + 0x1000) >>> 13);
}

function rotationBits(w, x, y, z) {
  if (w < 0) { w = -w; x = -x; y = -y; z = -z; }
  const length = Math.sqrt(x * x + y * y + z * z);
  const angle = Math.round(2 * Math.atan2(length, w) * (255 / Math.PI));
  if (length < 1e-6) return 0x80ff; // no rotation: any axis
  const sum = Math.abs(x) + Math.abs(y) + Math.abs(z);
  let u = x / sum, v = y / sum;
  if (z < 0) {
    const old = u;
    u = (1 - Math.abs(v)) * (u >= 0 ? 1 : -1);
    v = (1 - Math.abs(old)) * (v >= 0 ? 1 : -1);
  }
  return (angle << 16) | (Math.round((v * 0.5 + 0.5) * 255) << 8) | Math.round((u * 0.5 + 0.5) * 255);
}

/** Writes words 1 to 3: where Gaussians are and how they are shaped. */
export function packShapes(avatar, words) {
  const { means, quats, sizes, count: n } = avatar;
  const size = (value) => Math.min(255, Math.max(1, Math.round((value - LOG_LOW) * LOG_STEPS) + 1));
  for (let i = 0; i < n; i++) {
    const rotation = rotationBits(quats[i], quats[n + i], quats[2 * n + i], quats[3 * n + i]);
    words[4 * i + 1] = half(means[i]) | (half(means[n + i]) << 16);
    words[4 * i + 2] = half(means[2 * n + i]) | (rotation << 16);
    words[4 * i + 3] = size(sizes[i]) | (size(sizes[n + i]) << 8) | (size(sizes[2 * n + i]) << 16)
      | ((rotation >>> 16) << 24);
  }
}

/** Writes word 0: what Gaussians look like from where they were shaded. */
export function packColors(avatar, words) {
  const { colors, opacities, count: n } = avatar;
  const byte = (value) => (value >= 1 ? 255 : Math.round(value * 255));
  for (let i = 0; i < n; i++) {
    words[4 * i] = byte(colors[i]) | (byte(colors[n + i]) << 8) | (byte(colors[2 * n + i]) << 16)
      | (byte(opacities[i]) << 24);
  }
}
