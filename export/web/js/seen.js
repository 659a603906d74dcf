// Beyond the views of the recording the avatar is held: colours are those from the border of what was seen, and
// Gaussians that no frame showed have their neighbours' colours and bounded lengths. The same formulas as
// playback/view_clamp/views.py and playback/view_clamp/gaussians.py. Eyes are camera centres [x, y, z].

import { headFromBody } from "./codes.js";
import { inverted, rotated } from "./rotations.js";

const placed = (pose, point) => rotated(pose, point).map((v, i) => v + pose[4 + i]);

/** The eye within a cone { low, high: [yaw, pitch] } about ``centre`` that is nearest, and how far (radians) it is. */
export function nearest({ low, high }, centre, eye) {
  const [x, y, z] = eye.map((v, i) => v - centre[i]);
  const angles = [Math.atan2(x, z), Math.atan2(y, Math.hypot(x, z))];
  const [yaw, pitch] = angles.map((angle, i) => Math.min(Math.max(angle, low[i]), high[i]));
  const outside = Math.hypot(angles[0] - yaw, angles[1] - pitch);
  if (outside === 0) return { eye, outside };
  const distance = Math.hypot(x, y, z), level = distance * Math.cos(pitch);
  const offset = [level * Math.sin(yaw), distance * Math.sin(pitch), level * Math.cos(yaw)];
  return { eye: offset.map((v, i) => v + centre[i]), outside };
}

/** For an eye in the head frame: the eyes there that see head and body from within their cones, how much what was not
 * seen is filled (0 to 1) of each, and whether any of this is needed. */
export function held(seen, state, eye) {
  const pose = headFromBody(state);
  const head = nearest(seen.head, seen.centre, eye);
  const body = nearest(seen.body, seen.centre, placed(inverted(pose), eye));
  const amount = ({ outside }) => Math.min(outside / seen.fade_rad, 1);
  return {
    head: head.eye, body: body.outside === 0 ? eye : placed(pose, body.eye),
    headAmount: amount(head), bodyAmount: amount(body), needed: head.outside > 0 || body.outside > 0,
  };
}

/** Fills colors (rows red, green, blue) of Gaussians that were not seen, by shares [N], with their neighbours'. */
export function fill(colors, shares, { rows, columns: n, values }) {
  for (let i = 0; i < n; i++) {
    if (shares[i] === 0) continue; // neighbours are of this kind: their colours stay
    for (let c = 0; c < 3 * n; c += n) {
      let sum = 0;
      for (let k = 0; k < rows; k++) sum += colors[c + values[k * n + i]];
      colors[c + i] += shares[i] * (sum / rows - colors[c + i]);
    }
  }
}

/** Logarithms of the sizes (rows) into ``bounded``: by the shares [N] no more than ``longest``. */
export function bound(bounded, logScales, shares, longest) {
  const n = shares.length;
  for (let i = 0; i < logScales.length; i++) {
    bounded[i] = logScales[i] - shares[i % n] * Math.max(logScales[i] - longest, 0);
  }
}
