// The page: connects what the visitor touches to what is shown.

import { parseLiveLink } from "./livelink.js";
import { Sliders } from "./panel.js";
import { Show, startWorker } from "./show.js";
import { recordedSequence, stateOf } from "./states.js";
import { cameraOf } from "./view.js";
import { Webcam } from "./webcam.js";

const find = (id) => document.getElementById(id);

function say(text, isError = false) {
  const notice = find("notice");
  notice.textContent = text;
  notice.hidden = !text;
  notice.classList.toggle("error", isError);
}

class Page {
  constructor(show) {
    this.show = show;
    const { facts } = show;
    this.limit = () => find("limit").checked;
    this.sliders = new Sliders(find("sliders"), facts, (state) => { this.pause(); show.setState(state); }, this.limit);
    this.recording = recordedSequence(show.recording);
    this.useSequence(this.recording);
    this.playing = false;
    this.webcam = null;
    this._connect();
    show.onFrame = () => this._statistics();
    new ResizeObserver(() => show.resize()).observe(find("stage"));
  }

  useSequence(sequence) {
    this.sequence = sequence;
    this.time = 0;
    find("scrub").max = sequence.times[sequence.times.length - 1] || 0.001;
    find("scrub").value = 0;
    find("sequence").textContent = sequence.name;
    find("back").hidden = sequence === this.recording;
  }

  play() {
    this.stopWebcam();
    let last = performance.now();
    this.playing = true;
    find("play").textContent = "Pause";
    this.show.source = () => {
      const time = performance.now();
      this.time = (this.time + (time - last) / 1000) % this.sequence.duration;
      last = time;
      find("scrub").value = this.time;
      return this.sequence.at(this.time);
    };
  }

  /** Stops what drives the face; it stays as it is, and the sliders go on from there. */
  pause() {
    const driven = this.playing || this.webcam;
    this.playing = false;
    find("play").textContent = "Play";
    this.stopWebcam();
    this.show.source = null;
    if (driven) this.sliders.reset(this.show.state);
  }

  stopWebcam() {
    this.webcam?.stop();
    this.webcam = null;
    find("webcam").textContent = "Use my webcam";
  }

  scrub(time) {
    this.pause();
    this.time = time;
    const state = this.sequence.at(time);
    this.show.setState(state);
    this.sliders.reset(state);
  }

  neutral() {
    this.pause();
    this.sliders.reset();
    this.show.setState(this.sliders.base);
  }

  async openFile(file) {
    try {
      if (file.size > 200e6) throw new Error(`${file.name}: too large for a file of curves`);
      const sequence = parseLiveLink(file.name, await file.text(), this.show.facts, this.limit());
      this.useSequence(sequence);
      say("");
      this.play();
    } catch (error) {
      say(error.message, true);
    }
  }

  async useWebcam() {
    if (this.webcam) return this.pause();
    this.pause();
    const webcam = new Webcam(this.show.facts);
    try {
      say("Starting the webcam ...");
      await webcam.start();
      this.webcam = webcam;
      find("webcam").textContent = "Stop the webcam";
      this.show.source = () => webcam.read(this.limit()) ?? this.show.state;
      say("");
    } catch (error) {
      webcam.stop();
      say(error.message, true);
    }
  }

  setBackground(color) {
    this.show.view.setBackground(color);
    find("stage").style.background = color ?? "";
    for (const button of document.querySelectorAll("[data-color]")) {
      button.setAttribute("aria-pressed", String((button.dataset.color || null) === color));
    }
  }

  _connect() {
    find("play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    find("scrub").addEventListener("input", () => this.scrub(Number(find("scrub").value)));
    find("neutral").addEventListener("click", () => this.neutral());
    find("home").addEventListener("click", () => { this.show.orbit.home(); this.show.moveCamera(); });
    find("back").addEventListener("click", () => { this.pause(); this.useSequence(this.recording); });
    find("webcam").addEventListener("click", () => this.useWebcam());
    find("open").addEventListener("click", () => find("file").click());
    find("file").addEventListener("change", (e) => { if (e.target.files[0]) this.openFile(e.target.files[0]); });
    find("statistics").addEventListener("change", (e) => {
      find("overlay").hidden = !e.target.checked;
      this.show.measuring = e.target.checked;
    });
    find("picture").addEventListener("click", () => this._savePicture());
    find("color").addEventListener("input", (e) => this.setBackground(e.target.value));
    for (const button of document.querySelectorAll("[data-color]")) {
      if (button.dataset.color) button.style.background = button.dataset.color;
      button.addEventListener("click", () => this.setBackground(button.dataset.color || null));
    }
    for (const name of ["dragover", "drop"]) {
      window.addEventListener(name, (event) => {
        event.preventDefault();
        if (name === "drop" && event.dataTransfer.files[0]) this.openFile(event.dataTransfer.files[0]);
      });
    }
  }

  _savePicture() {
    Object.assign(document.createElement("a"), { href: this.show.view.picture(), download: "avatar.png" }).click();
  }

  _statistics() {
    if (find("overlay").hidden) return;
    const { maths, draw } = this.show.times;
    find("overlay").textContent = `${this.show.rate.toFixed(0)} FPS · maths ${maths.toFixed(1)} ms · `
      + `drawing ${draw.toFixed(1)} ms · ${this.show.facts.num_gaussians} Gaussians`;
  }
}

/** What tests and other programs on the page may use; see README.txt. */
function programmable(page) {
  const { show } = page;
  return {
    facts: show.facts,
    setState: async (description) => {
      page.pause();
      const state = stateOf(show.facts, description);
      page.sliders.reset(state);
      show.setState(state);
      await show.settled();
    },
    setCamera: async (camera) => { show.setCamera(camera && cameraOf(camera)); await show.settled(); },
    setBackground: (color) => page.setBackground(color),
    orbit: async (yaw, pitch, zoom) => { Object.assign(show.orbit, { yaw, pitch, zoom }); show.moveCamera(); },
    settled: () => show.settled(),
    picture: async () => { await show.settled(); return show.view.picture(); },
    state: () => ({ ...show.state, expression: Array.from(show.state.expression) }),
    sequence: () => ({ name: page.sequence.name, duration: page.sequence.duration, playing: page.playing }),
    measure: async (count = 10) => {
      page.pause();
      const at = (i) => page.recording.at((i * page.recording.duration) / count);
      const [maths, drawing] = await show.measure(Array.from({ length: count }, (_, i) => at(i)));
      return { maths, drawing, width: show.canvas.width, height: show.canvas.height };
    },
  };
}

const ready = startWorker().then((loaded) => {
  const page = new Page(new Show(find("canvas"), loaded));
  Object.assign(window.avatar, programmable(page));
  page.setBackground("#ffffff");
  say("");
  return page.show.settled();
});
window.avatar = { ready };
ready.catch((error) => say(`The avatar cannot be shown: ${error.message}`, true));
