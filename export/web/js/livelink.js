// ARKit curves as phone capture apps write them (the layout of Live Link Face): a line a frame, columns Timecode,
// BlendShapeCount, EyeBlinkLeft ... TongueOut, HeadYaw, HeadPitch, HeadRoll, LeftEyeYaw ... Rotations in radians. The
// head turns by Ry(yaw) Rx(-pitch) Rz(roll) in the head's frame; the eyes follow the eyeLook curves.

import { fromRotvec, multiply } from "./rotations.js";
import { Sequence, limited, neutralState, turnEyes } from "./states.js";

const HEAD = ["headyaw", "headpitch", "headroll"];
const RATES = [24, 25, 30, 48, 50, 60];

/** A sequence from the text of a file. Throws an Error that names the line and column of what is wrong. */
export function parseLiveLink(name, text, facts, keepToSeen = true) {
  const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line.trim());
  const place = new Map((lines[0] ?? "").split(",").map((cell, i) => [cell.trim().toLowerCase(), i]));
  const wanted = facts.expression_names.filter((n) => n.toLowerCase() !== "tongueout");
  const missing = ["Timecode", ...wanted].filter((n) => !place.has(n.toLowerCase()));
  if (missing.length) {
    throw new Error(`${name}, line 1: column ${missing[0]} missing; expected the columns of Live Link Face`);
  }
  const counts = place.get("blendshapecount");
  const rows = lines.slice(1).map((line, i) => ({ number: i + 2, cells: line.split(",") }));
  if (!rows.length) throw new Error(`${name}: holds no frames`);
  const times = secondsOf(name, rows.map(({ number, cells }) => [number, cells[place.get("timecode")] ?? ""]));
  const isLost = ({ cells }) => counts !== undefined && (cells[counts] ?? "").trim() === "0"; // by the phone
  if (rows.every(isLost)) throw new Error(`${name}: the phone saw no face in any of its ${rows.length} frames`);
  let last = null;
  const states = rows.map((row) => {
    if (isLost(row)) return last;
    const { number, cells } = row;
    last = stateOfRow(facts, keepToSeen, (column) => {
      const cell = cells[place.get(column)], value = Number(cell);
      if (cell === undefined || !cell.trim() || !Number.isFinite(value)) {
        throw new Error(`${name}, line ${number}: column ${column}: expected a number, got "${cell ?? ""}"`);
      }
      return value;
    }, (column) => place.has(column));
    return last;
  });
  const first = states.find((state) => state !== null);
  return new Sequence(name, times, (t) => states[t] ?? first);
}

function stateOfRow(facts, keepToSeen, number, has) {
  const state = neutralState(facts);
  facts.expression_names.forEach((name, e) => {
    if (has(name.toLowerCase())) state.expression[e] = Math.min(1, Math.max(0, number(name.toLowerCase())));
  });
  turnEyes(facts, state);
  if (keepToSeen) state.expression = limited(facts, state.expression);
  if (HEAD.every(has)) {
    const [yaw, pitch, roll] = HEAD.map(number);
    const turn = multiply(multiply(fromRotvec([0, yaw, 0]), fromRotvec([-pitch, 0, 0])), fromRotvec([0, 0, roll]));
    state.head = [...multiply(state.head, turn), ...state.head.slice(4)];
  }
  return state;
}

/** Seconds from the first frame of timecodes HH:MM:SS:FF.fff; the rate of FF is found where one second ends. */
function secondsOf(name, codes) {
  const fields = codes.map(([number, code]) => {
    const found = /^\s*(\d+):(\d\d):(\d\d)[:;](\d+(?:\.\d+)?)\s*$/.exec(code);
    if (!found) throw new Error(`${name}, line ${number}: column Timecode: expected HH:MM:SS:FF.fff, got "${code}"`);
    const [hours, minutes, seconds, frame] = found.slice(1).map(Number);
    return [3600 * hours + 60 * minutes + seconds, frame];
  });
  const rate = rateOf(fields);
  let days = 0, before = null;
  return fields.map(([whole, frame], i) => {
    let time = whole + frame / rate + 86400 * days;
    if (before !== null && time < before - 43200) { days += 1; time += 86400; }
    if (before !== null && time <= before) {
      throw new Error(`${name}, line ${codes[i][0]}: column Timecode: does not come after the line before`);
    }
    before = time;
    return time;
  }).map((time, _, all) => time - all[0]);
}

function rateOf(fields) {
  const largest = Math.max(...fields.map(([, frame]) => frame));
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const steps = [], ends = [];
  for (let i = 1; i < fields.length; i++) {
    if (fields[i][0] === fields[i - 1][0]) steps.push(fields[i][1] - fields[i - 1][1]);
    else if (fields[i][0] === fields[i - 1][0] + 1) ends.push(fields[i - 1][1] - fields[i][1]);
  }
  const fits = RATES.filter((rate) => rate > largest - 1e-6);
  if (!ends.length || !fits.length) return 60;
  const found = median(ends) + (steps.length ? median(steps) : 1);
  return fits.reduce((best, rate) => (Math.abs(rate - found) < Math.abs(best - found) ? rate : best));
}
