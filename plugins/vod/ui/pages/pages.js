// The pages inside Airflow: its theme and language, the player, and what their buttons ask of Airflow's API.
// Whatever people and files say reaches the page as text only.

const root = document.documentElement;
const inAirflow = window.parent !== window;

function followTheme() {
  const take = (theme) => {
    root.classList.toggle("dark", theme === "dark");
    root.classList.toggle("light", theme === "light");
  };
  if (!inAirflow) { take(localStorage.getItem("theme")); return; } // else the browser's own preference
  try {
    const airflow = window.parent.document.documentElement;
    const look = () => take(airflow.classList.contains("dark") ? "dark" : "light");
    new MutationObserver(look).observe(airflow, { attributes: true, attributeFilter: ["class"] });
    look();
  } catch { /* a frame of somebody else's: the browser's own preference */ }
}

// Only the browser knows which language Airflow is shown in; the server reads it from a cookie.
function followLanguage() {
  const wanted = localStorage.getItem("i18nextLng");
  if (!wanted || !/^[A-Za-z-]{2,12}$/.test(wanted)) return;
  const shown = root.lang.startsWith("zh"), name = root.dataset.languageCookie;
  document.cookie = `${name}=${wanted}; path=${location.pathname.replace(/[^/]*$/, "")}; SameSite=Lax`;
  if (wanted.startsWith("zh") !== shown && !sessionStorage.getItem("vod-language")) {
    sessionStorage.setItem("vod-language", wanted); // once: without cookies it would go on for ever
    location.reload();
  } else if (wanted.startsWith("zh") === shown) {
    sessionStorage.removeItem("vod-language");
  }
}

function localTimes(within) {
  const format = new Intl.DateTimeFormat(root.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of within.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    if (!Number.isNaN(when.valueOf())) { time.title = time.dateTime; time.textContent = format.format(when); }
  }
}

// The frame may not navigate Airflow itself; a link that belongs to Airflow's own document may.
function openInAirflow(href) {
  if (!inAirflow) { location.assign(href); return; }
  const link = window.parent.document.createElement("a");
  link.href = href;
  link.click();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  openInAirflow(link.href);
});

// What changes while runs go on is fetched anew; the server has escaped it, and scripts of it never run.
async function look() {
  const page = document.getElementById("page");
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.status === 401 || answer.status === 403) { location.reload(); return; }
  if (!answer.ok || document.querySelector("dialog[open]")) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const state = (from) => from.querySelector("h1 .state")?.textContent;
  const player = document.querySelector("audio");
  if (state(fresh) !== state(document) && !player?.currentTime) { location.reload(); return; }
  for (const id of ["counts", "live"]) {
    const before = document.getElementById(id), after = fresh.getElementById(id);
    if (!before || !after) continue;
    const focused = before.contains(document.activeElement) && document.activeElement;
    localTimes(after);
    before.replaceWith(document.adoptNode(after));
    if (focused) {
      const same = (each) => each.getAttribute("href") === focused.getAttribute("href");
      [...after.querySelectorAll(focused.localName)].find(same)?.focus({ preventScroll: true });
    }
  }
  page.toggleAttribute("data-moving", fresh.getElementById("page").hasAttribute("data-moving"));
}

function followRuns() {
  setTimeout(async () => {
    if (document.getElementById("page").hasAttribute("data-moving") && !document.hidden) {
      try { await look(); } catch { /* the server is away; the next look may succeed */ }
    }
    followRuns();
  }, 4000);
}

// What is slower than the page comes after it.
async function fillIn() {
  for (const box of document.querySelectorAll("div[data-src].later")) {
    const answer = await fetch(box.dataset.src, { headers: { Accept: "text/html" } });
    if (!answer.ok) continue;
    const told = new DOMParser().parseFromString(await answer.text(), "text/html");
    box.replaceChildren(...[...told.body.childNodes].map((node) => document.adoptNode(node)));
  }
}

function clock(seconds) {
  const whole = Math.floor(seconds), two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

class Transcript {
  constructor(box, audio) {
    this.box = box;
    this.audio = audio;
    this.offset = Number(audio.dataset.offset) || 0;
    this.lines = [];
  }

  async load() {
    let told;
    try {
      const answer = await fetch(this.box.dataset.src);
      told = await answer.json();
      if (!answer.ok) throw new Error(told.detail);
    } catch (error) {
      this.say(`${this.box.dataset.failed} ${error.message || ""}`);
      return;
    }
    const doubtful = Number(this.box.dataset.doubtful);
    for (const segment of told.segments || []) this.add(segment, doubtful);
    if (!this.lines.length) { this.say(this.box.dataset.nothing); return; }
    this.box.replaceChildren(...this.lines.map((line) => line.element));
    this.audio.addEventListener("timeupdate", () => this.follow());
    this.audio.addEventListener("seeked", () => this.follow());
  }

  say(text) {
    const line = document.createElement("p");
    line.className = "quiet";
    line.textContent = text;
    this.box.replaceChildren(line);
  }

  add(segment, doubtful) {
    if (!segment.words?.length) return;
    const element = document.createElement("p"), text = document.createElement("span");
    const start = segment.words[0].start - this.offset;
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = clock(Math.max(start, 0));
    jump.addEventListener("click", () => this.seek(start));
    const words = segment.words.map((word) => {
      const span = document.createElement("span");
      span.className = "word";
      span.textContent = word.text;
      if (typeof word.probability === "number" && word.probability < doubtful) {
        span.classList.add("unsure");
        span.title = `${Math.round(100 * word.probability)} %`;
      }
      span.addEventListener("click", () => this.seek(word.start - this.offset));
      return { span, start: word.start - this.offset, end: word.end - this.offset };
    });
    text.append(...words.map((word) => word.span));
    if (segment.speaker) text.prepend(`${segment.speaker}: `);
    element.append(jump, text);
    this.lines.push({ element, words, start, end: words.at(-1).end });
  }

  seek(seconds) {
    this.audio.currentTime = Math.max(seconds, 0);
    this.audio.play().catch(() => {});
  }

  follow() {
    const now = this.audio.currentTime + 0.05;
    const line = this.lines.findLast((each) => each.start <= now);
    if (line !== this.line) {
      this.line?.element.classList.remove("now");
      this.line?.element.removeAttribute("aria-current");
      this.line = line;
      line?.element.classList.add("now");
      line?.element.setAttribute("aria-current", "true");
      if (line) this.show(line.element);
    }
    const word = line?.words.findLast((each) => each.start <= now && now <= each.end + 0.3);
    if (word !== this.word) {
      this.word?.span.classList.remove("now");
      this.word = word;
      word?.span.classList.add("now");
    }
  }

  show(element) {
    const top = element.offsetTop - this.box.offsetTop;
    if (top < this.box.scrollTop || top + element.offsetHeight > this.box.scrollTop + this.box.clientHeight) {
      this.box.scrollTo({ top: Math.max(top - this.box.clientHeight / 3, 0) });
    }
  }

  find(text) {
    const wanted = text.trim().toLowerCase();
    for (const line of this.lines) {
      line.element.hidden = !line.element.lastChild.textContent.toLowerCase().includes(wanted);
    }
  }
}

// How loud the audio is along its time. The browser decodes it, at a low rate, and only what is not too long.
class Waveform {
  static largest = 48e6; // bytes
  static longest = 7200; // seconds
  static rate = 8000; // Hz: enough to see, and an hour takes 115 MB

  constructor(canvas, audio) {
    this.canvas = canvas;
    this.audio = audio;
  }

  async load() {
    const size = Number(this.canvas.dataset.size);
    if (!size || size > Waveform.largest || this.audio.duration > Waveform.longest) return;
    const answer = await fetch(this.audio.src);
    if (!answer.ok) return;
    const context = new OfflineAudioContext(1, 1, Waveform.rate);
    const sound = await context.decodeAudioData(await answer.arrayBuffer());
    this.loudness = this.measure(sound, 1000);
    this.canvas.hidden = false;
    for (const change of ["timeupdate", "seeked"]) this.audio.addEventListener(change, () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.canvas.addEventListener("click", (event) => {
      this.audio.currentTime = (event.offsetX / this.canvas.clientWidth) * this.audio.duration;
    });
  }

  measure(sound, columns) {
    const channels = Array.from({ length: sound.numberOfChannels }, (_, each) => sound.getChannelData(each));
    const loudness = new Float32Array(columns);
    for (const samples of channels) {
      for (let place = 0; place < samples.length; place++) {
        const column = Math.floor((place * columns) / samples.length);
        loudness[column] = Math.max(loudness[column], Math.abs(samples[place]));
      }
    }
    return loudness;
  }

  draw() {
    const { canvas, loudness } = this, paint = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    paint.scale(scale, scale);
    const played = (this.audio.currentTime / this.audio.duration) * width;
    for (let x = 0; x < width; x += 2) {
      const tall = Math.max(loudness[Math.floor((x / width) * loudness.length)] * height, 1);
      paint.fillStyle = style.getPropertyValue(x < played ? "--accent" : "--quiet");
      paint.fillRect(x, (height - tall) / 2, 1.4, tall);
    }
  }
}

function startPlayer() {
  const audio = document.querySelector("audio");
  if (!audio) return;
  const waveform = new Waveform(document.getElementById("wave"), audio);
  const showWaveform = () => waveform.load().catch(() => {}); // a format that this browser only plays
  if (audio.readyState) showWaveform();
  else audio.addEventListener("loadedmetadata", showWaveform, { once: true });
  audio.addEventListener("error", async () => {
    document.getElementById("silent").hidden = false;
    try {
      const answer = await fetch(audio.src, { headers: { Range: "bytes=0-0" } });
      if (!answer.ok) document.getElementById("silent-why").textContent = (await answer.json()).detail;
    } catch { /* nothing more is known */ }
  });
  const box = document.getElementById("words");
  if (box) {
    const transcript = new Transcript(box, audio);
    transcript.load();
    document.getElementById("find").addEventListener("input", (event) => transcript.find(event.target.value));
  }
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target === audio || target.closest("input, button, a, select, textarea, dialog")) return;
    if (event.key === " ") {
      event.preventDefault();
      if (audio.paused) audio.play().catch(() => {}); else audio.pause();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      audio.currentTime = Math.max(audio.currentTime + (event.key === "ArrowLeft" ? -5 : 5), 0);
    }
  });
}

// Airflow's own API does what the buttons say, with the rights of whoever is logged in.
async function ask(path, body) {
  const answer = await fetch(`../api/v2/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = told.detail;
    throw new Error(typeof detail === "string" ? detail : answer.statusText || String(answer.status));
  }
  return told;
}

async function startRun(dialog, conf, say) {
  const dag = encodeURIComponent(dialog.dataset.dag);
  const run = await ask(`dags/${dag}/dagRuns`, { logical_date: null, conf });
  const link = document.createElement("a");
  link.href = `../dags/${dag}/runs/${encodeURIComponent(run.dag_run_id)}`;
  link.dataset.airflow = "";
  link.textContent = dialog.dataset.opened;
  say(link);
}

const actions = {
  async again(dialog, say) {
    await startRun(dialog, JSON.parse(dialog.dataset.conf), say);
  },
  async transcribe(dialog, say) {
    const { model, language } = dialog.querySelector("form").elements;
    const spoken = language.value.trim() || null;
    await startRun(dialog, { audio: [dialog.dataset.audio], model: model.value, language: spoken, force: true }, say);
  },
  async retry(dialog, say) {
    const dag = dialog.dataset.dag;
    const body = { dry_run: false, dag_run_id: dialog.dataset.run, only_failed: true, reset_dag_runs: true };
    const cleared = await ask(`dags/${encodeURIComponent(dag)}/clearTaskInstances`, body);
    say(dialog.dataset.cleared.replace("%", cleared.total_entries));
    document.getElementById("page").dataset.moving = "";
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-confirm]");
  if (!button) return;
  const dialog = document.getElementById(button.dataset.confirm);
  dialog.querySelector("[role=status]").replaceChildren();
  dialog.querySelector(".main").hidden = false;
  dialog.querySelector("[value=no]").textContent = dialog.dataset.cancel;
  dialog.showModal();
});

document.addEventListener("submit", async (event) => {
  const dialog = event.target.closest("dialog"), yes = event.submitter;
  if (!dialog || yes?.value !== "yes") return;
  event.preventDefault();
  const status = dialog.querySelector("[role=status]");
  yes.hidden = true;
  dialog.querySelector("[value=no]").textContent = dialog.dataset.close;
  try {
    await actions[dialog.id](dialog, (told) => status.replaceChildren(told));
  } catch (error) {
    status.textContent = dialog.dataset.failed.replace("%", () => error.message);
  }
});

document.addEventListener("keydown", (event) => {
  const field = document.querySelector("[data-slash]");
  if (event.key !== "/" || !field || event.target.closest("input, textarea")) return;
  event.preventDefault();
  field.focus();
  field.select();
});

followTheme();
followLanguage();
localTimes(document);
startPlayer();
fillIn().catch(() => {});
followRuns();
