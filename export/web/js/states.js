// States of the head: { expression [E], joints [4 J] (wxyz), head, body (poses to the world), sway [2 C] or null (rest) }.

import { blended, canonical, fromRotvec, fromTransform, multiply, normalized } from "./rotations.js";

const LOOKS = { Up: [1, 1], Down: [1, -1], Out: [0, 1], In: [0, -1] }; // angle (0 yaw, 1 pitch) and sign, left eye

/** The face at rest at the mean pose. */
export function neutralState(facts) {
  return {
    expression: new Float32Array(facts.expression_names.length),
    joints: Float32Array.from(facts.joint_names.flatMap(() => [1, 0, 0, 0])),
    head: fromTransform(facts.state.T_world_head),
    body: fromTransform(facts.state.T_world_body),
    sway: null,
  };
}

/** Rotation of an eye by yaw to the subject's left, then pitch up (radians). */
export function gazeQuat(yaw, pitch) {
  return multiply(fromRotvec([0, yaw, 0]), fromRotvec([-pitch, 0, 0]));
}

/** Yaw and pitch of an eye ("Left" or "Right") that eyeLook coefficients stand for. */
export function gazeAngles(facts, expression, side) {
  const angles = [0, 0];
  for (const [look, [axis, sign]] of Object.entries(LOOKS)) {
    const place = facts.expression_names.indexOf(`eyeLook${look}${side}`);
    const outward = axis === 0 && side === "Right" ? -1 : 1;
    if (place >= 0) angles[axis] += sign * outward * facts.eye_full_rad * expression[place];
  }
  return angles;
}

/** Turns the eyeballs of a state as its eyeLook coefficients say. */
export function turnEyes(facts, state) {
  for (const side of ["Left", "Right"]) {
    const joint = facts.joint_names.indexOf(`eye_${side.toLowerCase()}`);
    if (joint >= 0) state.joints.set(gazeQuat(...gazeAngles(facts, state.expression, side)), 4 * joint);
  }
  return state;
}

/** Coefficients as they are within the avatar's range (0.18 at least), and bent to stay within 1.4 times it beyond. */
export function limited(facts, expression) {
  return expression.map((value, e) => {
    const high = Math.max(facts.expression_range[1][e], 0.18), room = 0.4 * high;
    return value <= high ? Math.max(value, 0) : high + room * Math.tanh((value - high) / room);
  });
}

/** The whole state of a description { expression: {name: value} or [E], joints [J][4], T_world_head, T_world_body, sway
 * [C][2] }. */
export function stateOf(facts, description) {
  const state = neutralState(facts);
  const { expression = {}, joints, T_world_head, T_world_body, sway } = description;
  if (Array.isArray(expression)) state.expression.set(expression);
  else for (const [name, value] of Object.entries(expression)) {
    const place = facts.expression_names.indexOf(name);
    if (place < 0) throw new Error(`${name}: no expression of this avatar`);
    state.expression[place] = value;
  }
  if (joints) state.joints.set(joints.flat());
  if (T_world_head) state.head = fromTransform(T_world_head);
  if (T_world_body) state.body = fromTransform(T_world_body);
  if (sway && facts.sway) {
    state.sway = Float32Array.from(sway.flat());
    const wanted = 2 * facts.sway.columns * facts.sway.rows;
    if (state.sway.length !== wanted) throw new Error(`sway: expected ${wanted / 2} pairs, got ${state.sway.length / 2}`);
  }
  return state;
}

/** A sequence of states by their times in seconds. at(time) blends neighbours; time runs round. */
export class Sequence {
  /** name: what to call it. times [T] from 0 on; states: a function from a place to a state. */
  constructor(name, times, states) {
    Object.assign(this, { name, times, states });
    const last = times[times.length - 1];
    this.duration = last + (times.length > 1 ? last / (times.length - 1) : 0.04);
  }

  at(time) {
    const t = ((time % this.duration) + this.duration) % this.duration;
    let low = 0, high = this.times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= t) low = middle; else high = middle - 1;
    }
    const a = this.states(low);
    if (low === this.times.length - 1) return a;
    const share = Math.max(0, (t - this.times[low]) / (this.times[low + 1] - this.times[low]));
    return share === 0 ? a : between(a, this.states(low + 1), share);
  }
}

function between(a, b, share) {
  const joints = new Float32Array(a.joints.length);
  for (let j = 0; j < joints.length; j += 4) {
    const pose = (s) => [...s.joints.slice(j, j + 4), 0, 0, 0];
    joints.set(blended(pose(a), pose(b), share).slice(0, 4), j);
  }
  return {
    expression: a.expression.map((value, e) => value + share * (b.expression[e] - value)),
    joints, head: blended(a.head, b.head, share), body: blended(a.body, b.body, share),
    sway: a.sway && b.sway ? a.sway.map((value, i) => value + share * (b.sway[i] - value)) : null,
  };
}

/** What the person did in the video that the avatar was made from. */
export function recordedSequence(recording) {
  const column = ({ rows, columns, values }, t) => Array.from({ length: rows }, (_, r) => values[r * columns + t]);
  return new Sequence("The recording", recording.times.values, (t) => {
    const joints = column(recording.joints, t);
    const units = [];
    for (let j = 0; j < joints.length; j += 4) units.push(...normalized(joints.slice(j, j + 4)));
    const [head, body] = [column(recording.head, t), column(recording.body, t)];
    return {
      expression: Float32Array.from(column(recording.expression, t)), joints: Float32Array.from(units),
      head: [...canonical(head), ...head.slice(4)], body: [...canonical(body), ...body.slice(4)],
      sway: recording.sway ? Float32Array.from(column(recording.sway, t)) : null,
    };
  });
}
