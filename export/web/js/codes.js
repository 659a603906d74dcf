// What depends on the state alone: the codes of the small network, and the corrected head pose.

import { composed, fromRotvec, inverted, toRotvec } from "./rotations.js";

/** Body in the head frame: a pose. */
export function headFromBody(state) {
  return composed(inverted(state.head), state.body);
}

/** Joints and the body's pose as the network reads them: units of 0.1 rad and 1 cm, at most five of them. */
export function bentPose(state) {
  const body = headFromBody(state);
  const pose = [];
  for (let j = 0; j + 3 < state.joints.length; j += 4) {
    pose.push(...toRotvec(Array.from(state.joints.slice(j, j + 4))).map((v) => v / 0.1));
  }
  pose.push(...toRotvec(body.slice(0, 4)).map((v) => v / 0.1), ...body.slice(4).map((v) => v / 0.01));
  return pose.map((v) => 5 * Math.tanh(v / 5));
}

/** The codes [R] of a state. */
export function codesOf(arrays, layers, state) {
  let values = [...state.expression, ...bentPose(state)];
  for (let layer = 0; layer < layers; layer++) {
    const { rows, columns, values: weight } = arrays[`coder.${layer}.weight`];
    const bias = arrays[`coder.${layer}.bias`].values;
    const next = new Array(rows);
    for (let r = 0; r < rows; r++) {
      let sum = bias[r];
      for (let c = 0; c < columns; c++) sum += weight[r * columns + c] * values[c];
      next[r] = layer < layers - 1 ? Math.max(sum, 0) : sum;
    }
    values = next;
  }
  return values;
}

/** The learned correction of the tracked head pose: a pose in the head frame. */
export function poseDelta(arrays, state) {
  const product = (name, vector) => {
    const { rows, columns, values } = arrays[name];
    return Array.from({ length: rows }, (_, r) => vector.reduce((s, v, c) => s + v * values[r * columns + c], 0));
  };
  const mean = arrays["correction.mean"].values, scale = arrays["correction.pose_scale"].values;
  const body = headFromBody(state);
  const relative = [...toRotvec(body.slice(0, 4)), ...body.slice(4)].map((v, i) => v / scale[i]);
  const codes = product("correction.components", Array.from(state.expression, (v, i) => v - mean[i]));
  const inputs = [...codes, ...relative].map((v) => 3 * Math.tanh(v / 3));
  const delta = product("correction.weight", inputs).map((v) => 2 * Math.tanh(v / 2));
  return [...fromRotvec(delta.slice(0, 3).map((v) => v * 0.1)), ...delta.slice(3).map((v) => v * 0.01)];
}
