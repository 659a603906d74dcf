// Reads avatar.bin: arrays [rows, columns] of quantised numbers, as avatar.json describes them.

const TYPES = { int8: Int8Array, int16: Int16Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };

/** The bytes of a file that may be gzipped (some servers unpack it on the way, some do not). */
export async function unpacked(buffer) {
  const head = new Uint8Array(buffer, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return buffer;
  const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** All arrays by name: { rows, columns, values } with values [rows * columns], row after row. */
export function readArrays(index, content) {
  const arrays = {};
  for (const [name, entry] of Object.entries(index)) arrays[name] = readArray(name, entry, content);
  return arrays;
}

function readArray(name, entry, content) {
  const [rows, columns] = entry.shape;
  const Type = TYPES[entry.type];
  const bytes = rows * columns * (Type ? Type.BYTES_PER_ELEMENT : 0);
  if (!Type || entry.offset + bytes > content.byteLength) {
    throw new Error(`avatar.bin: the array ${name} is damaged or cut off; export the avatar again`);
  }
  const raw = new Type(content, entry.offset, rows * columns);
  if (entry.power === undefined) return { rows, columns, values: raw };
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const scale = entry.scale[row], bias = entry.bias[row];
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const step = entry.power === 2 ? raw[i] * Math.abs(raw[i]) : raw[i];
      values[i] = bias + scale * step;
    }
  }
  return { rows, columns, values };
}
