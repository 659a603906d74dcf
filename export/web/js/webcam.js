// The visitor's webcam by MediaPipe's FaceLandmarker, where its files lie beside the page:
//
//   mediapipe/vision_bundle.mjs, mediapipe/wasm/   from the npm package @mediapipe/tasks-vision
//   mediapipe/face_landmarker.task                 the model, from MediaPipe's own page
//
// Pictures never leave the browser.

import { canonical, conjugate, fromMatrix, multiply, rotated } from "./rotations.js";
import { limited, neutralState, turnEyes } from "./states.js";

const FILES = ["mediapipe/vision_bundle.mjs", "mediapipe/face_landmarker.task"];
const TO_OPENCV = [0, 1, 0, 0]; // half a turn about x: from +y up, +z to the viewer to +y down, +z forward

export class Webcam {
  constructor(facts) {
    this.facts = facts;
    this.first = null; // the head's rotation when it began
    this.state = null;
  }

  /** Asks for the camera and loads MediaPipe. Throws an Error whose message says what is missing. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("The webcam needs a page served by https or localhost.");
    for (const file of FILES) {
      const answer = await fetch(new URL(file, document.baseURI), { method: "HEAD" }).catch(() => null);
      if (!answer?.ok) throw new Error(`MediaPipe is not beside this page (${file} is missing); see README.txt.`);
    }
    const { FaceLandmarker, FilesetResolver } = await import(new URL(FILES[0], document.baseURI).href);
    const files = await FilesetResolver.forVisionTasks(new URL("mediapipe/wasm", document.baseURI).href);
    this.landmarker = await FaceLandmarker.createFromOptions(files, {
      baseOptions: { modelAssetPath: new URL(FILES[1], document.baseURI).href, delegate: "GPU" },
      runningMode: "VIDEO", numFaces: 1, outputFaceBlendshapes: true, outputFacialTransformationMatrixes: true,
    }).catch((error) => {
      throw new Error(`MediaPipe does not start with these files (${String(error.message).split("\n")[0]}).`);
    });
    const video = { facingMode: "user", width: 640, height: 480 };
    this.stream = await navigator.mediaDevices.getUserMedia({ video }).catch((error) => {
      throw new Error(`The browser gives no webcam (${error.name}).`);
    });
    this.video = Object.assign(document.createElement("video"), { srcObject: this.stream, muted: true });
    this.video.playsInline = true;
    await this.video.play();
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.landmarker?.close();
    this.stream = this.landmarker = null;
  }

  /** The state of this moment; the last one while no face is seen, null before the first. */
  read(keepToSeen) {
    if (!this.landmarker || this.video.currentTime === this.seen) return this.state;
    this.seen = this.video.currentTime;
    const found = this.landmarker.detectForVideo(this.video, performance.now());
    if (!found.faceBlendshapes?.length) return this.state;
    const state = neutralState(this.facts);
    for (const { categoryName, score } of found.faceBlendshapes[0].categories) {
      const place = this.facts.expression_names.indexOf(categoryName);
      if (place >= 0) state.expression[place] = score;
    }
    turnEyes(this.facts, state);
    if (keepToSeen) state.expression = limited(this.facts, state.expression);
    const matrix = found.facialTransformationMatrixes?.[0]?.data; // column by column, +y up, +z to the viewer
    if (matrix) state.head = this._turned(state.head, [0, 1, 2].flatMap((r) => [matrix[r], matrix[4 + r], matrix[8 + r]]));
    return (this.state = state);
  }

  /** The resting head turned as the visitor's has turned since the start; it turns about a point in the neck. */
  _turned(head, rotation) {
    const turned = fromMatrix(rotation);
    this.first ??= turned;
    const since = multiply(turned, conjugate(this.first));
    const inWorld = multiply(multiply(TO_OPENCV, since), conjugate(TO_OPENCV));
    const q = canonical(multiply(inWorld, head));
    const neck = [0, -0.1, -0.06];
    const before = rotated(head, neck), after = rotated(q, neck);
    return [...q, ...[0, 1, 2].map((i) => head[4 + i] + before[i] - after[i])];
  }
}
