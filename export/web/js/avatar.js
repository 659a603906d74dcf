// The avatar's own maths: a state gives the Gaussians in the head frame. Plain typed arrays; runs in a worker or in node.
// The same formulas as fitting/avatars/linear.py, ops/deform.py.

import { codesOf, headFromBody, poseDelta } from "./codes.js";
import { basis, turnMatrix } from "./harmonics.js";
import { IDENTITY, canonical, toMatrix } from "./rotations.js";
import { bound, fill, held } from "./seen.js";
import { sway } from "./sway.js";

/** sums[i] = base[i] + Σ_r codes[r] rows[r][i], for rows of ``length`` numbers. */
function addModes(sums, base, modes, codes, length) {
  if (base) sums.set(base); else sums.fill(0);
  let r = 0;
  for (; r + 3 < codes.length; r += 4) { // four at once: the sums are read and written a quarter as often
    const a = codes[r], b = codes[r + 1], c = codes[r + 2], d = codes[r + 3];
    const A = r * length, B = A + length, C = B + length, D = C + length;
    for (let i = 0; i < length; i++) sums[i] += a * modes[A + i] + b * modes[B + i] + c * modes[C + i] + d * modes[D + i];
  }
  for (; r < codes.length; r++) {
    const a = codes[r], A = r * length;
    for (let i = 0; i < length; i++) sums[i] += a * modes[A + i];
  }
}

/** Sets sums to those over expressions of ``shapes``, as many numbers each. */
function blendShapes(sums, shapes, expression) {
  const size = sums.length;
  sums.fill(0);
  expression.forEach((value, e) => {
    if (value === 0) return;
    for (let i = 0, s = e * size; i < size; i++) sums[i] += value * shapes[s + i];
  });
}

export class Avatar {
  /** description: avatar.json. arrays: of avatar.bin, see arrays.js. */
  constructor(description, arrays) {
    this.facts = description;
    this.arrays = arrays;
    const n = (this.count = description.num_gaussians);
    this.coefficients = (description.sh_degree + 1) ** 2;
    this.looks = new Float32Array(n * (1 + 3 * this.coefficients)); // rows: opacity logit, then harmonics by channel
    this.motion = description.motion ? new Float32Array(n * 9) : null;
    this.means = new Float32Array(n * 3); // rows x, y, z
    this.quats = new Float32Array(n * 4); // rows w, x, y, z
    this.logScales = new Float32Array(n * 3);
    this.opacities = new Float32Array(n);
    this.moved = description.rigged ? new Float32Array(arrays.rig_shapes.columns) : null;
    this.changed = arrays.rig_changes ? new Float32Array(arrays.rig_changes.columns) : null;
    this.colors = new Float32Array(n * 3);
    this.shares = new Float32Array(n); // of what is filled of each Gaussian
    this.bounded = new Float32Array(n * 3);
    this.sizes = this.logScales; // what is shown of them
  }

  /** Sets means, quats, logScales, opacities and looks for a state { expression, joints, head, body, sway }. */
  evaluate(state) {
    const { arrays, facts } = this;
    this.state = state;
    state = { ...state, expression: tuned(facts, state.expression) };
    const codes = codesOf(arrays, facts.layers, state);
    addModes(this.looks, arrays.base_looks.values, arrays.look_modes.values, codes, this.looks.length);
    if (this.motion) addModes(this.motion, null, arrays.motion_modes.values, codes, this.motion.length);
    this._shapes();
    if (facts.rigged) this._displace(state.expression);
    if (this.changed) this._change(state.expression);
    if (facts.sway && state.sway) sway(this.means, this.count, facts.sway, state.sway);
    if (facts.two_frames || facts.pose_correction) this._anchor(state);
    for (let i = 0; i < this.count; i++) this.opacities[i] = 1 / (1 + Math.exp(-this.looks[i]));
  }

  /** Means, rotations and sizes with the codes' motion. */
  _shapes() {
    const { arrays, count: n, means, quats, logScales, motion } = this;
    means.set(arrays.means.values);
    quats.set(arrays.quats.values);
    logScales.set(arrays.log_scales.values);
    const [low, high] = this.facts.limits;
    const shift = this.facts.units.shift_m, turn = this.facts.units.turn_rad / 2;
    if (motion) {
      for (let i = 0; i < 3 * n; i++) means[i] += shift * motion[i];
      for (let i = 0; i < 3 * n; i++) logScales[i] += motion[6 * n + i];
      for (let i = 0; i < n; i++) {
        const x = turn * motion[3 * n + i], y = turn * motion[4 * n + i], z = turn * motion[5 * n + i];
        const half = Math.sqrt(x * x + y * y + z * z);
        const s = half < 1e-6 ? 1 : Math.sin(half) / half;
        this._turn(i, Math.cos(half), x * s, y * s, z * s);
      }
    }
    for (let i = 0; i < 3 * n; i++) logScales[i] = Math.min(Math.max(logScales[i], low), high);
  }

  /** Puts the rotation (w, x, y, z), not necessarily of unit length, before that of Gaussian i. */
  _turn(i, w, x, y, z) {
    const { quats: q, count: n } = this;
    const unit = 1 / Math.sqrt(w * w + x * x + y * y + z * z);
    w *= unit; x *= unit; y *= unit; z *= unit;
    const bw = q[i], bx = q[n + i], by = q[2 * n + i], bz = q[3 * n + i];
    q[i] = w * bw - x * bx - y * by - z * bz;
    q[n + i] = w * bx + x * bw + y * bz - z * by;
    q[2 * n + i] = w * by - x * bz + y * bw + z * bx;
    q[3 * n + i] = w * bz + x * by - y * bx + z * bw;
  }

  /** Moves the means with the head model's expression shapes. */
  _displace(expression) {
    const { arrays, count: n, means, moved } = this;
    const vertices = moved.length / 3;
    blendShapes(moved, arrays.rig_shapes.values, expression);
    const corner = arrays.rig_vertices.values, weight = arrays.rig_weights.values;
    for (let k = 0; k < 3; k++) {
      for (let i = 0; i < n; i++) {
        const w = weight[k * n + i], v = corner[k * n + i];
        means[i] += w * moved[v];
        means[n + i] += w * moved[vertices + v];
        means[2 * n + i] += w * moved[2 * vertices + v];
      }
    }
  }

  /** Turns, stretches and lights the Gaussians as the expression does it there: rows of rotation vector (3), logarithmic
   * strain (6) and constant harmonics (3). */
  _change(expression) {
    const { arrays, count: n, looks, quats: q, logScales, changed } = this, vertices = changed.length / 12;
    blendShapes(changed, arrays.rig_changes.values, expression);
    const corner = arrays.rig_vertices.values, weight = arrays.rig_weights.values, limit = this.facts.largest_growth;
    const c = new Float64Array(12);
    for (let i = 0; i < n; i++) {
      for (let row = 0; row < 12; row++) {
        c[row] = 0;
        for (let k = 0; k < 3; k++) c[row] += weight[k * n + i] * changed[row * vertices + corner[k * n + i]];
      }
      const length = Math.hypot(q[i], q[n + i], q[2 * n + i], q[3 * n + i]);
      const w = q[i] / length, x = q[n + i] / length, y = q[2 * n + i] / length, z = q[3 * n + i] / length;
      const axes = [
        1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
        2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x),
        2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y),
      ];
      for (let a = 0; a < 3; a++) {
        const X = axes[3 * a], Y = axes[3 * a + 1], Z = axes[3 * a + 2];
        const growth = c[3] * X * X + c[4] * Y * Y + c[5] * Z * Z + 2 * (c[6] * X * Y + c[7] * X * Z + c[8] * Y * Z);
        logScales[a * n + i] += Math.min(Math.max(growth, -limit), limit);
      }
      const half = Math.hypot(c[0], c[1], c[2]) / 2, s = half < 1e-6 ? 0.5 : Math.sin(half) / (2 * half);
      this._turn(i, Math.cos(half), c[0] * s, c[1] * s, c[2] * s);
      for (let channel = 0; channel < 3; channel++) looks[(1 + channel) * n + i] += c[9 + channel];
    }
  }

  /** Blends each Gaussian between the head's frame and the body's. */
  _anchor(state) {
    const { facts, arrays, count: n, means } = this;
    const head = facts.pose_correction ? poseDelta(arrays, state) : IDENTITY;
    const body = facts.two_frames ? headFromBody(state) : head;
    const weights = facts.two_frames ? arrays.head_weights.values : null;
    const H = toMatrix(head), B = toMatrix(body), qh = canonical(head), qb = canonical(body);
    for (let i = 0; i < n; i++) {
      const w = weights ? weights[i] : 1, v = 1 - w;
      const x = means[i], y = means[n + i], z = means[2 * n + i];
      for (let a = 0; a < 3; a++) {
        const r = 3 * a;
        const inHead = H[r] * x + H[r + 1] * y + H[r + 2] * z + head[4 + a];
        const inBody = B[r] * x + B[r + 1] * y + B[r + 2] * z + body[4 + a];
        means[a * n + i] = inBody + w * (inHead - inBody);
      }
      this._turn(i, v * qb[0] + w * qh[0], v * qb[1] + w * qh[1], v * qb[2] + w * qh[2], v * qb[3] + w * qh[3]);
    }
    if (facts.two_frames && this.coefficients > 1) this._turnHarmonics(B, weights);
  }

  /** Harmonics of what follows the body turn with it. */
  _turnHarmonics(B, weights) {
    const { looks, arrays, count: n, coefficients: K } = this;
    const turn = turnMatrix(this.facts.sh_degree, B, arrays["harmonics.directions"], arrays["harmonics.solve"]);
    const before = new Float64Array(K);
    for (let i = 0; i < n; i++) {
      const v = 1 - weights[i];
      for (let channel = 0; channel < 3; channel++) {
        for (let k = 1; k < K; k++) before[k] = looks[(1 + 3 * k + channel) * n + i];
        for (let band = 1; band * band < K; band++) { // harmonics mix within their own degree alone
          const first = band * band, end = first + 2 * band + 1;
          for (let a = first; a < end; a++) {
            let sum = 0;
            for (let b = first; b < end; b++) sum += turn[a * K + b] * before[b];
            looks[(1 + 3 * a + channel) * n + i] += v * (sum - before[a]);
          }
        }
      }
    }
  }

  /** Sets colors (rows red, green, blue; not below 0) as seen from ``eye``, the camera's centre in the head frame, and
   * sizes (rows). Beyond the recording's views both are held, see seen.js. Returns whether they are. */
  shade(eye) {
    const { arrays, facts, count: n, shares } = this;
    const view = held(facts.seen, this.state, eye);
    const neighbours = arrays["seen.neighbours"], confidence = arrays["seen.confidence"].values;
    const weights = facts.two_frames ? arrays.head_weights.values : null;
    this._color(view, weights);
    this.sizes = this.logScales;
    if (!view.needed || neighbours.rows === 0) return view.needed;
    for (let i = 0; i < n; i++) {
      const amount = view.bodyAmount + (weights ? weights[i] : 1) * (view.headAmount - view.bodyAmount);
      shares[i] = amount * (1 - confidence[i]);
    }
    fill(this.colors, shares, neighbours);
    bound(this.bounded, this.logScales, shares, Math.log(facts.seen.longest_m));
    this.sizes = this.bounded;
    return true;
  }

  /** Colors as seen from the eyes { head, body }, mixed by the weights. */
  _color({ head, body }, weights) {
    const { looks, means, colors, count: n, coefficients: K } = this;
    const values = new Float64Array(K);
    for (let i = 0; i < n; i++) {
      const w = weights ? weights[i] : 1;
      const x = means[i] - body[0] - w * (head[0] - body[0]);
      const y = means[n + i] - body[1] - w * (head[1] - body[1]);
      const z = means[2 * n + i] - body[2] - w * (head[2] - body[2]);
      const unit = 1 / Math.sqrt(x * x + y * y + z * z);
      basis(this.facts.sh_degree, x * unit, y * unit, z * unit, values);
      for (let channel = 0; channel < 3; channel++) {
        let value = 0.5;
        for (let k = 0; k < K; k++) value += values[k] * looks[(1 + 3 * k + channel) * n + i];
        colors[channel * n + i] = Math.max(value, 0);
      }
    }
  }
}

/** neutral + gain * expression, as it is within 1.5 and bent to stay within 2 (scene/expression_tuning.py), then capped
 * (scene/expression_caps.py). */
function tuned({ tuning: { neutral, gains }, caps }, expression) {
  const values = Array.from(expression, (given, e) => {
    const value = neutral[e] + gains[e] * given, beyond = Math.abs(value) - 1.5;
    return beyond > 0 ? Math.sign(value) * (1.5 + 0.5 * Math.tanh(beyond / 0.5)) : value;
  });
  for (const [capped, by] of caps) values[capped] = Math.min(values[capped], Math.max(values[by], 0));
  return values;
}
