// The page: charts of plain SVG, sliders, words, and the state in the address. Strings from the data reach the page only
// as text nodes and attributes of our own making, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const NAMES = { N: "parameters N", D: "training tokens D" }, UNITS = { N: "parameters", D: "tokens" };

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "text", "defs", "clipPath", "pattern"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- charts

const SCALES = { log: log10, linear: (v) => v, asinh: (v) => Math.asinh(v / 2) };

/** Round numbers between two ends, some ``room`` of them at most. */
function ticksOf({ scale, low, high, ticks }, room) {
  if (ticks) return ticks;
  if (scale === "log") {
    const decades = log10(high / low), each = Math.max(1, Math.ceil(decades / room));
    const steps = decades * 3 <= room + 1 ? [1, 2, 5] : [1];
    const powers = Array.from({ length: 40 }, (_, k) => k).filter((k) => k % each === 0);
    return powers.flatMap((k) => steps.map((m) => m * 10 ** k)).filter((v) => v >= low && v <= high);
  }
  const raw = (high - low) / room, power = 10 ** Math.floor(log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: 30 }, (_, i) => (first + i) * step).filter((v) => v <= high + 1e-9 * step);
}

/** One panel: axes that ``frame`` draws anew, and parts with names that ``put`` makes once and then moves. */
class Chart {
  constructor(id, label) {
    this.id = id;
    this.svg = make("svg", { role: "img", "aria-label": label });
    $(id).append(this.svg);
  }

  frame(x, y) {
    this.width = Math.max($(this.id).clientWidth, 240);
    this.height = clamp(0.62 * this.width, 270, 430);
    Object.assign(this, { axisX: x, axisY: y, left: 44, right: this.width - 10, top: 30, bottom: this.height - 42 });
    this.parts = new Map();
    const inside = { x: this.left, y: this.top, width: this.right - this.left, height: this.bottom - this.top };
    this.inner = make("g", { "clip-path": `url(#${this.id}-clip)` });
    this.outer = make("g");
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    this.svg.replaceChildren(
      make("defs", {}, make("clipPath", { id: `${this.id}-clip` }, make("rect", inside)),
        make("pattern", { id: `${this.id}-hatch`, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
          make("path", { d: "M0 8L8 0", class: "hatch" }))),
      this.inner, this.outer);
    let grid = "";
    for (const v of ticksOf(y, this.height / 45)) {
      grid += `M${this.left} ${this.py(v)}H${this.right}`;
      const at = { x: this.left - 6, y: this.py(v) + 4, "text-anchor": "end", class: "small" };
      this.put(`y${v}`, "text", at, y.say(v));
    }
    for (const v of ticksOf(x, (this.right - this.left) / 52)) {
      grid += `M${this.px(v)} ${this.top}V${this.bottom}`;
      const at = { x: this.px(v), y: this.bottom + 17, "text-anchor": "middle", class: "small" };
      this.put(`x${v}`, "text", at, x.say(v));
    }
    this.put("grid", "path", { d: grid, class: "grid" });
    this.put("axis", "path", { d: `M${this.left} ${this.top}V${this.bottom}H${this.right}`, class: "axis" });
    this.put("x", "text", { x: (this.left + this.right) / 2, y: this.height - 6, "text-anchor": "middle" }, x.name);
    this.put("y", "text", { x: 2, y: 14 }, y.name);
  }

  px(v) { return this.place(this.axisX, v, this.left, this.right); }
  py(v) { return this.place(this.axisY, v, this.bottom, this.top); }
  place({ scale, low, high }, v, from, to) {
    const [a, b, c] = [low, high, v].map(SCALES[scale]);
    return Math.round(100 * clamp(from + ((c - a) / (b - a)) * (to - from), -5000, 5000)) / 100;
  }

  put(key, tag, attributes, text) {
    let part = this.parts.get(key);
    if (!part) {
      part = make(tag);
      (tag === "text" ? this.outer : this.inner).append(part);
      this.parts.set(key, part);
    }
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    if (text !== undefined) part.textContent = text;
  }

  /** A line; it has a gap where y is null. */
  line(key, xs, ys, kind) {
    let d = "", pen = "M";
    xs.forEach((x, i) => {
      if (ys[i] === null) pen = "M";
      else { d += `${pen}${this.px(x)} ${this.py(ys[i])}`; pen = "L"; }
    });
    this.put(key, "path", { d, class: kind });
  }

  /** A band between two lines, in pieces where one is null. */
  area(key, xs, lows, highs, kind) {
    const pieces = [];
    xs.forEach((x, i) => {
      if (lows[i] === null) return;
      if (i === 0 || lows[i - 1] === null) pieces.push([[], []]);
      const [up, down] = pieces.at(-1);
      up.push(`${this.px(x)} ${this.py(highs[i])}`);
      down.unshift(`${this.px(x)} ${this.py(lows[i])}`);
    });
    this.put(key, "path", { d: pieces.map((p) => `M${p.flat().join("L")}Z`).join(""), class: kind });
  }

  zero() { this.put("zero", "path", { d: `M${this.left} ${this.py(0)}H${this.right}`, class: "zero" }); }

  dots(key, xs, ys, kind) {
    const d = xs.map((x, i) => `M${this.px(x)} ${this.py(ys[i])}h0`).join("");
    this.put(key, "path", { d, class: `dots ${kind}` });
  }

  /** Signs such as a diamond or a star, as text. */
  signs(key, points, sign, kind) {
    for (let i = 0; i < Math.max(points.length, 5); i++) {
      const shown = i < points.length;
      const at = shown ? { x: this.px(points[i][0]), y: this.py(points[i][1]) + 6 } : {};
      this.put(`${key}${i}`, "text", { ...at, "text-anchor": "middle", class: kind }, shown ? sign : "");
    }
  }

  span(key, low, high, kind) {
    const from = clamp(this.px(low), this.left, this.right), to = clamp(this.px(high), this.left, this.right);
    const at = { x: from, y: this.top, width: Math.max(to - from, 0), height: this.bottom - this.top };
    this.put(key, "rect", { ...at, ...(kind ? { class: kind } : { fill: `url(#${this.id}-hatch)` }) });
  }
}

// ---- sliders and words

/** A range input whose state keeps the exact value: the handle stands at the nearest step, the label tells the value. */
function slider(id, { log = false, step = 0.01, say, moved }) {
  const input = $(id), to = log ? log10 : (v) => v;
  const made = {
    ends: [0, 1],
    limit(low, high) {
      made.ends = [low, high];
      Object.assign(input, { step, min: to(low), max: to(high) });
    },
    clip: (value) => clamp(value, ...made.ends),
    show(value) {
      input.value = to(value);
      $(`${id}-said`).textContent = say(value);
      input.setAttribute("aria-valuetext", say(value));
    },
  };
  input.addEventListener("input", () => {
    const at = Number(input.value);
    moved(made.clip(log ? Number((10 ** at).toPrecision(4)) : at));
    save();
  });
  return made;
}

const press = (id, action) => $(id).addEventListener("click", () => { action(); save(); });
const change = (id, action) => $(id).addEventListener("change", () => { action(); save(); });

/** Paragraphs: each a list of strings, ["strong", text] or ["sup", text]. */
function words(id, ...paragraphs) {
  $(id).replaceChildren(...paragraphs.filter((p) => p.some((x) => x.length)).map((parts) =>
    make("p", {}, ...parts.map((x) => (typeof x === "string" ? x : make(x[0], x[2] ? { class: x[2] } : {}, x[1]))))));
}

const bracket = (low, high) => `90% [${low.toFixed(3)}, ${high.toFixed(3)}]`;
const LOSS = "loss (nats per token)";
const plain = (v) => digits(v, 4);

// ---- the explorer

const explorer = {
  get law() { return DATA.laws[state.law]; },
  charts: { N: new Chart("along-N", "Loss against parameters"), D: new Chart("along-D", "Loss against tokens") },
  sliders: {},

  build() {
    for (const v of ["N", "D"]) {
      explorer.sliders[v] = slider(v, { log: true, say: short, moved: (value) => explorer.set({ [v]: value }) });
      const svg = explorer.charts[v].svg;
      const drag = (event) => {
        if (event.type === "pointermove" && !event.buttons) return;
        const chart = explorer.charts[v], part = (event.offsetX - chart.left) / (chart.right - chart.left);
        const { low, high } = chart.axisX, value = low * (high / low) ** clamp(part, 0, 1);
        explorer.set({ [v]: explorer.sliders[v].clip(Number(value.toPrecision(4))) });
        save();
      };
      svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
      svg.addEventListener("pointermove", drag);
    }
    const spend = (c) => explorer.set(bestSplit(explorer.law.form, c));
    explorer.sliders.C = slider("C", { log: true, say: scientific, moved: spend });
    $("law").append(...DATA.laws.map((law, i) => make("option", { value: i }, law.title)));
    change("law", () => { explorer.home(Number($("law").value)); explorer.still(); });
    $("model").append(make("option", { value: "" }, "go to a known model …"),
      ...DATA.models.map((m, i) => make("option", { value: i }, m.name)));
    change("model", () => {
      const model = DATA.models[$("model").value];
      if (!model) return;
      Object.assign(state, { N: model.N, D: model.D, far: state.far || explorer.isFar(model) });
      explorer.still();
    });
    change("far", () => { state.far = $("far").checked; explorer.still(); });
    press("reset", () => { explorer.home(state.law); explorer.still(); });
  },

  /** The largest run of a law; for a law without its runs the largest N and D that it was fitted to. */
  home(index) {
    const law = DATA.laws[index];
    Object.assign(state, { law: index, far: false, N: 1e9, D: 1e9 });
    const sizes = law.loss.map((_, i) => law.vars.reduce((p, v) => p * law.data[v][i], 1));
    const last = sizes.indexOf(Math.max(...sizes));
    for (const v of law.vars) state[v] = law.loss.length ? law.data[v][last] : law.range[v][1];
    settle("N", "D", "far");
  },

  /** Whether a point lies beyond the axes that fit the runs, and the law has longer ones. */
  isFar: (at) => explorer.law.canZoom && explorer.law.vars.some((v) => at[v] > explorer.law.ends[v][1] * 1.001),

  /** Axes, runs and known models: what changes with the law and the size of the window only. */
  still() {
    const { law, charts } = explorer;
    $("law").value = state.law;
    $("far").checked = state.far;
    $("far-label").hidden = !law.canZoom;
    $("text").textContent = law.text;
    $("law-about").textContent = law.about;
    $("C").closest("label").hidden = law.vars.length < 2 || !law.form;
    document.querySelector("#explorer .charts").classList.toggle("one", law.vars.length < 2);
    const runs = law.loss.length, shown = [runs, runs && law.vars.length > 1, 1, 1, 1, law.hasBand, law.grid, 1];
    [...$("explorer-legend").children].forEach((item, i) => { item.hidden = !shown[i]; });
    for (const v of ["N", "D"]) {
      const own = law.vars.includes(v);
      $(v).closest("label").hidden = $(`along-${v}`).hidden = !own;
      if (!own) continue;
      const [low, high] = state.far ? law.farEnds[v] : law.ends[v];
      explorer.sliders[v].limit(low, high);
      state[v] = explorer.sliders[v].clip(state[v]);
      const chart = charts[v], name = `${NAMES[v]}${v === "N" ? `, ${law.counting}` : ""}`;
      chart.frame({ scale: "log", low, high, name, say: short },
        { scale: "linear", low: law.lossEnds[0], high: law.lossEnds[1], name: LOSS, say: plain });
      chart.span("range", ...law.range[v], "range");
      chart.dots("other", law.data[v], law.loss, "other");
      let before = -100, row = 0;
      for (const model of [...DATA.models].sort((a, b) => a[v] - b[v])) {
        const x = chart.px(model[v]);
        if (model[v] < low || model[v] > high) continue;
        chart.put(`m${model.name}`, "path", { d: `M${x} ${chart.top}V${chart.bottom}`, class: "model" });
        row = x - before < 16 ? 1 - row : 0; // where lines stand close, every other name stands lower
        chart.put(`t${model.name}`, "text", { transform: `translate(${x - 4} ${chart.top + 4 + 98 * row}) rotate(-90)`,
          "text-anchor": "end", class: "small halo" }, model.name);
        before = x;
      }
    }
    if (law.form) {
      const budgets = Array.from({ length: 160 }, (_, i) => 10 ** (6 + i / 6)).filter((c) => {
        const best = bestSplit(law.form, c);
        return law.vars.every((v) => best[v] >= explorer.sliders[v].ends[0] && best[v] <= explorer.sliders[v].ends[1]);
      });
      $("C").disabled = budgets.length < 2;
      if (budgets.length > 1) explorer.sliders.C.limit(budgets[0], budgets.at(-1));
    }
    explorer.move();
  },

  set(change) {
    Object.assign(state, change);
    explorer.move();
  },

  /** What a law says at a point, with its verdict: {said, verdict}. */
  answer(at) {
    const said = ask(explorer.law, at) ?? {};
    return { said, verdict: judge(explorer.law, at, DATA.limits, said) };
  },

  move() {
    const { law } = explorer, at = { N: state.N, D: state.D };
    for (const v of law.vars) explorer.sliders[v].show(state[v]);
    if (law.vars.length > 1 && law.form) explorer.sliders.C.show(6 * state.N * state.D);
    const chosen = DATA.models.findIndex((m) => law.vars.every((v) => m[v] === state[v]));
    $("model").value = chosen < 0 ? "" : chosen;
    const { said, verdict } = explorer.answer(at);
    for (const v of law.vars) explorer.along(v, at, said, verdict);
    explorer.say(at, said, verdict);
  },

  /** One panel: the law along v with the other count held. It stops where its verdict refuses. */
  along(v, at, said, verdict) {
    const { law } = explorer, chart = explorer.charts[v], { low, high } = chart.axisX, [first, last] = law.range[v];
    const asked = (x) => ({ x, ...explorer.answer({ ...at, [v]: x }) });
    const xs = [...geomspace(low, high, 72), first, last].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
    const points = [];
    for (const x of xs) {
      const next = asked(x), before = points.at(-1);
      if (before && before.verdict.refused !== next.verdict.refused) points.push(...edge(before, next, asked));
      points.push(next);
    }
    const refused = points.map((p) => p.verdict.refused);
    const read = (name, from = 0, to = Infinity) =>
      points.map((p, i) => (refused[i] || p.said[name] === undefined || p.x < from || p.x > to ? null : p.said[name]));
    const at_ = points.map((p) => p.x);
    chart.area("new", at_, read("newLow"), read("newHigh"), "band new");
    chart.area("band", at_, read("low"), read("high"), "band");
    chart.line("below", at_, read("mid", 0, first), "law dashed");
    chart.line("law", at_, read("mid", first, last), "law");
    chart.line("beyond", at_, read("mid", last), "law dashed");
    explorer.refusals(chart, points, refused);
    const other = law.vars.find((name) => name !== v);
    if (other) {
      const near = law.loss.map((_, i) => i).filter((i) => Math.abs(Math.log(law.data[other][i] / at[other])) < 0.262);
      chart.dots("near", near.map((i) => law.data[v][i]), near.map((i) => law.loss[i]), "near");
      const held = `at ${other} = ${short(at[other])} ${UNITS[other]}`;
      chart.put("held", "text", { x: chart.left + 8, y: chart.bottom - 9, class: "held halo" }, held);
    } else chart.dots("near", law.data[v], law.loss, "near");
    const x = chart.px(at[v]);
    chart.put("target", "path", { d: `M${x} ${chart.top}V${chart.bottom}`, class: "target" });
    chart.signs("here", verdict.refused ? [] : [[at[v], said.mid]], "◆", "diamond halo");
  },

  /** Hatch what is refused, and write there that there is no prediction. */
  refusals(chart, points, refused) {
    const pieces = [];
    refused.forEach((no, i) => {
      if (no && !refused[i - 1]) pieces.push([points[i].x, points[i].x]);
      else if (no) pieces.at(-1)[1] = points[i].x;
    });
    for (let k = 0; k < 4; k++) {
      const piece = pieces[k] ?? [1, 1], from = chart.px(piece[0]), to = chart.px(piece[1]), width = to - from;
      const turned = width < 110, x = (from + to) / 2 + (turned ? 5 : 0), y = chart.bottom - (turned ? 70 : 34);
      chart.span(`no${k}`, ...piece);
      chart.put(`says${k}`, "text", { x, y, "text-anchor": "middle", class: "refuse halo",
        transform: turned ? `rotate(-90 ${x} ${y})` : "" }, pieces[k] && width > 15 ? "no prediction" : "");
    }
  },

  say(at, said, verdict) {
    const { law } = explorer;
    const where = law.vars.length > 1
      ? `N = ${short(at.N)} parameters, D = ${short(at.D)} tokens: ${digits(at.D / at.N, 3)} tokens per parameter, ` +
        `C = ${scientific(6 * at.N * at.D)} FLOPs.`
      : `${law.vars[0]} = ${short(at[law.vars[0]])} ${UNITS[law.vars[0]]}${law.held ? `; ${law.held}` : ""}.`;
    const why = sentence(verdict.reasons.join("; "));
    if (verdict.refused) {
      words("explorer-words", [where], [["strong", `No prediction: ${verdict.level}.`, "no"], ` ${why}`]);
      return;
    }
    const ends = said.low === undefined ? "" : `, ${bracket(said.low, said.high)} for the law`;
    const run = said.newLow === undefined ? "" : `, ${bracket(said.newLow, said.newHigh)} for a new run`;
    words("explorer-words", [where], [["strong", `${said.mid.toFixed(3)} nats per token`], `${ends}${run}.`],
      ["Verdict: ", ["strong", verdict.level], `. ${why}`]);
  },
};

/** The two sides of the place between two answers at which the verdict turns. */
function edge(before, next, asked) {
  for (let i = 0; i < 10; i++) {
    const middle = asked(Math.sqrt(before.x * next.x));
    if (middle.verdict.refused === before.verdict.refused) before = middle;
    else next = middle;
  }
  return [before, next];
}

// ---- the law by hand

const PERCENT = [-50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50];
const MOST = { residuals: 60, errors: 80 }; // per cent; larger ones are drawn at this edge
const perCent = { scale: "asinh", ticks: PERCENT, say: (v) => (v ? signed(v, 0) : "0") };

const hand = {
  get data() { return DATA.hands[state.ladder]; },
  left: new Chart("hand-losses", "Losses with a law set by hand"),
  right: new Chart("hand-residuals", "Residuals of the law set by hand"),
  sliders: {},

  build() {
    const three = (v) => v.toFixed(3);
    for (const [id, log] of [["E", false], ["h", true], ["a", false]]) {
      hand.sliders[id] = slider(id, { log, step: 0.005, say: three, moved: (v) => { state[id] = v; hand.move(); } });
    }
    $("ladder").append(...DATA.hands.map((x, i) => make("option", { value: i }, x.title)));
    change("ladder", () => { hand.home(Number($("ladder").value)); hand.still(); });
    press("best", () => { Object.assign(state, hand.data.best); hand.move(); });
    press("rest", () => { Object.assign(state, fitRest(hand.data, state)); hand.move(); });
    press("hand-reset", () => { hand.home(state.ladder); hand.still(); });
  },

  /** A law that goes through the middle, but too flat. */
  home(index) {
    const { loss } = DATA.hands[index], sorted = [...loss].sort((a, b) => a - b);
    const E = Number((0.5 * sorted[0]).toFixed(3));
    Object.assign(state, { ladder: index, E, h: sorted[Math.floor(sorted.length / 2)] - E, a: 0.1 });
    settle("E", "h", "a");
  },

  still() {
    const { data, left, right } = hand, low = Math.min(...data.x), high = Math.max(...data.x);
    $("ladder").value = state.ladder;
    for (const id of ["E", "h", "a"]) {
      hand.sliders[id].limit(...data.ends[id]);
      state[id] = hand.sliders[id].clip(state[id]);
    }
    const least = Math.min(...data.loss), most = Math.max(...data.loss), spread = most - least;
    left.frame({ scale: "log", low: low / 1.6, high: high * 30, name: data.name, say: short },
      { scale: "linear", low: Math.max(0, least - 2.5 * spread), high: most + 0.6 * spread, name: LOSS, say: plain });
    right.frame({ scale: "log", low: low / 1.6, high: high * 1.6, name: data.name, say: short },
      { ...perCent, low: -MOST.residuals, high: MOST.residuals, name: "residual (% of the loss)" });
    left.span("range", low, high, "range");
    right.zero();
    hand.move();
  },

  move() {
    const { data, left, right } = hand, high = Math.max(...data.x);
    for (const id of ["E", "h", "a"]) hand.sliders[id].show(state[id]);
    const xs = geomspace(left.axisX.low, left.axisX.high, 90);
    left.line("floor", [xs[0], xs.at(-1)], [state.E, state.E], "floor");
    const part = (keep) => [...xs.filter(keep), high].sort((p, q) => p - q);
    for (const [key, at, kind] of [["law", part((x) => x < high), "law"], ["beyond", part((x) => x > high), "law dashed"]]) {
      left.line(key, at, at.map((x) => handLoss(data, state, x)), kind);
    }
    left.dots("runs", data.x, data.loss, "near");
    const rest = data.loss.map((y, i) => 100 * Math.log(y / handLoss(data, state, data.x[i])));
    right.dots("rest", data.x, rest.map((r) => clamp(r, -MOST.residuals, MOST.residuals)), "rest");
    const score = handObjective(data, state), ratio = score / Math.max(data.objective, 1e-300), v = data.variable;
    const said = ratio < 1.0005 ? "this is the best fit"
      : `${ratio > 99 ? Math.round(ratio).toLocaleString("en") : ratio.toFixed(2)} times that of the best fit`;
    const amplitude = digits(state.h * data.middle ** state.a, 3), far = 30 * high;
    words("hand-words",
      [`L = ${state.E.toFixed(3)} + ${amplitude} / ${v}`, ["sup", state.a.toFixed(3)],
       `. Typical residual ${(100 * Math.sqrt((2 * score) / data.x.length)).toFixed(2)}%. `,
       "Half the sum of squared log residuals: ", ["strong", digits(score, 3)], `, ${said}.`],
      [`30 times beyond the largest run, at ${short(far)}, it says ` +
       `${handLoss(data, state, far).toFixed(3)} nats per token.`],
      [data.verdict]);
  },
};

// ---- the IsoFLOP lab

const BUDGETS = [1e17, 1e18, 1e19, 1e20, 1e21], TARGET = 1e24, SIZES = 15;
const power = (c) => c.toExponential(0).replace("e+", "e"); // 1e24
const FLAGS = {
  edge: "the lowest loss is at the smallest or largest size tried",
  outside: "the minimum lies outside the sizes tried",
  flat: "no curvature beyond the noise",
};

const lab = {
  form: DATA.truth.form,
  loss: (n, c) => FORMS[lab.form.name](lab.form.values, Math.log(n), Math.log(c / 6 / n)).loss,
  left: new Chart("parabolas", "Loss against size for five budgets, with parabolas"),
  right: new Chart("errors", "Error of the optimal tokens against compute"),
  sliders: {},

  build() {
    const options = [
      ["w", { log: true, say: (v) => `${v.toFixed(1)}x` }, [2 ** 0.5, 32]],
      ["o", { say: (v) => signed(v, 2) }, [-3, 3]],
      ["g", { say: (v) => signed(v, 2) }, [-1, 1]], ["s", { say: (v) => `${v.toFixed(2)}%` }, [0, 1]],
    ];
    for (const [id, how, ends] of options) {
      lab.sliders[id] = slider(id, { ...how, moved: (v) => { state[id] = v; lab.move(); } });
      lab.sliders[id].limit(...ends);
    }
    $("lab-legend").prepend(...BUDGETS.map((c, i) => make("li", {}, make("i", { class: `budget b${i}` }), `${power(c)} FLOPs`)));
    press("draw", () => { state.draw += 1; if (!state.s) state.s = 0.3; lab.move(); });
    press("lab-reset", () => { lab.home(); lab.still(); });
  },

  home() {
    Object.assign(state, { w: 4, o: 0, g: 0, s: 0, draw: 1 });
    settle("w", "o", "g", "s", "draw");
  },

  still() {
    const { left, right } = lab;
    for (const id of ["w", "o", "g", "s"]) state[id] = lab.sliders[id].clip(state[id]);
    lab.truth = [...BUDGETS, TARGET].map((c) => bestSplit(lab.form, c).N);
    const losses = BUDGETS.map((c, i) => lab.loss(lab.truth[i], c));
    left.frame({ scale: "log", low: lab.truth[0] / 60, high: lab.truth[4] * 60, name: NAMES.N, say: short },
      { scale: "linear", low: 0.93 * losses[4], high: 1.35 * losses[0], name: LOSS, say: plain });
    right.frame({ scale: "log", low: 1e16, high: 1e25, name: "compute C (FLOPs)", say: power },
      { ...perCent, low: -MOST.errors, high: MOST.errors, name: "error of the optimal tokens D* (%)" });
    right.span("range", BUDGETS[0], BUDGETS[4], "range");
    right.zero();
    lab.move();
  },

  move() {
    const { left, right, truth, form } = lab;
    for (const id of ["w", "o", "g", "s"]) lab.sliders[id].show(state[id]);
    const noise = normals(state.draw, BUDGETS.length * SIZES);
    const found = BUDGETS.map((c, i) => {
      const centre = truth[i] * 2 ** (state.o + state.g * (log10(c) - 19));
      const sizes = geomspace(centre / state.w, centre * state.w, SIZES);
      const losses = sizes.map((n, k) => lab.loss(n, c) * Math.exp((noise[i * SIZES + k] * state.s) / 100));
      left.dots(`runs${i}`, sizes, losses, `sizes b${i}`);
      return { sizes, ...parabola(sizes, losses) };
    });
    const line = lineThrough(BUDGETS, found), good = found.map((p, i) => i).filter((i) => found[i].flag === "ok");
    const off = (trueN, n) => clamp(100 * (trueN / n - 1), -MOST.errors, MOST.errors); // of D* = C / 6 N*
    found.forEach((p, i) => {
      const at = line ? geomspace(p.sizes[0], p.sizes.at(-1), 40) : [];
      left.line(`curve${i}`, at, at.map(p.curve), `curve b${i}`);
    });
    left.signs("minima", line ? good.map((i) => [found[i].n, found[i].loss]) : [], "★", "star halo");
    const along = line ? geomspace(1e17, TARGET, 30) : [];
    right.line("line", along, along.map((c) => off(bestSplit(form, c).N, line.optimal(c))), "law dashed");
    right.signs("optima", line ? good.map((i) => [BUDGETS[i], off(truth[i], found[i].n)]) : [], "★", "star halo");
    const n = line?.optimal(TARGET), error = 100 * (truth[5] / n - 1);
    right.signs("far", line ? [[TARGET, off(truth[5], n)]] : [], "◆", "diamond halo");
    const doubtful = Object.entries(FLAGS).map(([flag, why]) => [BUDGETS.filter((_, i) => found[i].flag === flag), why])
      .filter(([some]) => some.length)
      .map(([some, why]) => `at ${some.map(scientific).join(", ")} FLOPs ${why}`).join("; ");
    const [, , , alpha, beta] = form.values;
    if (!line) {
      const few = `${good.length} of 5 budgets have a usable minimum, and 2 are needed.`;
      const mend = "Widen the grid or move its centre.";
      words("lab-words", [["strong", "No exponent:", "no"], ` ${few} ${sentence(doubtful)} ${mend}`]);
      return;
    }
    words("lab-words",
      ["The parabolas find N* ~ C", ["sup", line.slope.toFixed(3)], "; the truth is C",
       ["sup", (beta / (alpha + beta)).toFixed(3)], "."],
      [`At 1e24 FLOPs they say N* = ${short(n)} (${signed(100 * (n / truth[5] - 1), 1)}%) and `,
       `D* = ${short(TARGET / 6 / n)} (`, ["strong", `${signed(error, 1)}%`], `). Truth: ${DATA.truth.title}.`],
      [doubtful ? `Left out: ${doubtful}.` : "All five minima lie inside their grids."]);
  },
};

// ---- the state, and its place in the address

const state = {};
const HOME = { law: 0, ladder: 0, theme: "" }; // what a reset leads to; what differs from it is in the address
const settle = (...keys) => keys.forEach((key) => { HOME[key] = state[key]; });
const KEYS = ["law", "N", "D", "far", "ladder", "E", "h", "a", "w", "o", "g", "s", "draw", "theme"];

const given = () => new URLSearchParams(location.hash.slice(1));

/** Colours that the address asks for, put on the page; "" leaves them to the reader's system. */
function colours() {
  const asked = given().get("theme");
  return (document.documentElement.dataset.theme = ["light", "dark"].includes(asked) ? asked : "");
}

let waiting = 0; // for the address to be written
function open_() {
  clearTimeout(waiting);
  const said = given();
  const number = (key, fallback) => {
    const value = Number(said.get(key));
    return said.get(key) && Number.isFinite(value) && (value > 0 || "ogsE".includes(key)) ? value : fallback;
  };
  const index = (key, list) => Math.max(0, list.findIndex((x) => x.key === said.get(key)));
  explorer.home(index("law", DATA.laws));
  hand.home(index("ladder", DATA.hands));
  lab.home();
  for (const key of ["N", "D", "E", "h", "a", "w", "o", "g", "s", "draw"]) state[key] = number(key, state[key]);
  state.far = (said.get("far") === "1" && explorer.law.canZoom) || explorer.isFar(state);
  $("theme").value = state.theme = colours();
  for (const part of [explorer, hand, lab]) part.still();
  share();
}

function fragment() {
  const names = { law: (i) => DATA.laws[i].key, ladder: (i) => DATA.hands[i].key, far: () => 1 };
  const short_ = (v) => (typeof v === "number" ? Number(v.toPrecision(6)) : v);
  const written = (k) => (names[k] ? names[k](state[k]) : short_(state[k]));
  const parts = KEYS.filter((k) => state[k] !== HOME[k]).map((k) => [k, written(k)]);
  return new URLSearchParams(parts).toString();
}

function share() {
  const at = `#${fragment()}`, file = location.pathname.split("/").pop();
  $("link").href = at;
  const title = document.title.replace(/["<&]/g, " ");
  $("frame").value = `<iframe src="${file}${at.length > 1 ? at : ""}" title="${title}" ` +
    'width="100%" height="900" loading="lazy" style="border: 0"></iframe>';
}

function save() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    share();
    try { history.replaceState(null, "", $("link").href); } catch { /* a sandboxed frame has no address of its own */ }
  }, 250);
}

function start() {
  for (const part of [explorer, hand, lab]) part.build();
  document.querySelector("main").hidden = false;
  change("theme", () => { state.theme = document.documentElement.dataset.theme = $("theme").value; });
  $("frame").addEventListener("focus", () => $("frame").select());
  open_();
  addEventListener("hashchange", open_);
  let shown = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== shown) for (const part of [explorer, hand, lab]) part.still();
    shown = innerWidth;
  });
}

// The title and what the page is about are painted, in their colours, before the charts are made.
colours();
requestAnimationFrame(() => setTimeout(start));
