// The mathematics of the page: what a law says at a point, whether that may be believed, the best split of a budget, a
// law of three numbers by least squares, and IsoFLOP parabolas. Nothing here touches the page.
"use strict";

const Z90 = 1.6448536269514722; // normal quantile of 95%: a two-sided interval of 90%
const GOLDEN = (Math.sqrt(5) - 1) / 2;
const log10 = Math.log10;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const sum = (list) => list.reduce((a, b) => a + b, 0);
const mean = (list) => sum(list) / list.length;
const geomspace = (low, high, n) => Array.from({ length: n }, (_, i) => low * (high / low) ** (i / (n - 1)));

// ---- numbers as people write them

/** A count: 24.7k, 405B, 15.6T. */
function short(value) {
  for (const [factor, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= 0.9995 * factor) return digits(value / factor, 3) + letter;
  }
  return digits(value, 3);
}

/** A number to so many significant digits, without trailing zeros. */
const digits = (value, n) => String(Number(value.toPrecision(n)));

/** FLOPs: 3.14e23. */
const scientific = (value) => value.toExponential(2).replace("e+", "e");
const signed = (value, n) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(n);
const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + "." : "");

// ---- a law

// Each form: its loss at ln N and ln D, and the derivative by its working parameters (amplitudes by their logarithms),
// which an interval needs.
const FORMS = {
  chinchilla([e, a, b, alpha, beta], n, d) {
    const ofN = a * Math.exp(-alpha * n), ofD = b * Math.exp(-beta * d);
    return { loss: e + ofN + ofD, slope: [1, ofN, ofD, -n * ofN, -d * ofD] };
  },
  kaplan([nc, dc, alphaN, alphaD], n, d) {
    return { loss: (Math.exp((Math.log(nc) - n) * (alphaN / alphaD)) + dc / Math.exp(d)) ** alphaD };
  },
};

/** Where the point stands in a table: [offset, weight] of the 4 or 16 neighbours that a cubic goes through. */
function neighbours(grid, logs) {
  let found = [[0, 1]];
  grid.shape.forEach((n, axis) => {
    const u = (logs[axis] - grid.start[axis]) / grid.step[axis];
    const first = clamp(Math.floor(u) - 1, 0, n - 4), t = u - first;
    const [a, b, c, d] = [t, t - 1, t - 2, t - 3]; // Lagrange's weights of four even points
    const weights = [-(b * c * d) / 6, (a * c * d) / 2, -(a * b * d) / 2, (a * b * c) / 6];
    found = found.flatMap(([at, w]) => weights.map((v, j) => [at * n + first + j, w * v]));
  });
  return found;
}

/**
 * What a law says at a point {N, D}: mid, and the 90% ends of its mean (low, high) and of a new run (newLow, newHigh),
 * where it has them. By its closed form, or from the table of a pooled fit; null where neither reaches.
 */
function ask(law, at) {
  const logs = law.vars.map((v) => log10(at[v]));
  if (!law.grid) {
    if (!law.form || law.refusals.length) return null;
    const { loss, slope } = FORMS[law.form.name](law.form.values, ...law.vars.map((v) => Math.log(at[v])));
    if (!law.form.cov) return { mid: loss };
    const variance = sum(slope.flatMap((a, i) => slope.map((b, j) => a * b * law.form.cov[i][j])));
    const factor = Math.exp((Z90 * Math.sqrt(variance)) / loss);
    return { mid: loss, low: loss / factor, high: loss * factor };
  }
  const { start, step, shape } = law.grid;
  if (logs.some((u, k) => u < start[k] - 1e-9 || u > start[k] + step[k] * (shape[k] - 1) + 1e-9)) return null;
  const places = neighbours(law.grid, logs);
  const read = (table) => {
    let total = 0; // a loop: this is what a slider's move spends its time on
    for (const [place, weight] of places) total += table[place] * weight;
    return Math.exp(total / law.grid.unit);
  };
  const said = Object.fromEntries(Object.entries(law.grid.tables).map(([name, table]) => [name, read(table)]));
  said.forms = law.grid.forms.map(({ name, table }) => ({ name, loss: read(table) }));
  return said;
}

/**
 * The verdict at a point, by the rules and in the words of scaling_lib.fit.verdict, whose limits come with the data. A
 * published law is "published", and "out of range" where PublishedLaw.beyond says so.
 */
function judge(law, at, limits, said) {
  if (law.flat) return { level: "no trend", refused: true, reasons: [law.flat] };
  const refusals = [...law.refusals], doubts = [];
  for (const v of law.vars) {
    const [low, high] = law.range[v], span = log10(high / low);
    const above = log10(at[v] / high), below = log10(low / at[v]), beyond = Math.max(above, below);
    const side = above >= below ? "beyond the largest" : "below the smallest";
    const where = `the target lies ${beyond.toFixed(1)} decades in ${v} ${side} run`;
    const spanned = `and the runs span ${span.toFixed(1)} decades`;
    if (beyond > Math.max(limits.far, span)) {
      const runs = `the runs of this law, whose ${v} goes from ${short(low)} to ${short(high)}`;
      const outside = `${v} = ${short(at[v])} lies ${beyond.toFixed(1)} decades outside ${runs}`;
      if (law.published) return { level: "out of range", refused: true, reasons: [outside] };
      refusals.push(`${where}, ${spanned}: they do not constrain the loss there`);
    } else if (beyond > Math.min(limits.far, Math.max(span, 0.5))) doubts.push(`${where}, ${spanned}`);
  }
  if (!refusals.length && said.low !== undefined) {
    const width = (said.high - said.low) / said.mid;
    const text = `the 90% interval at the target runs from ${digits(said.low, 3)} to ${digits(said.high, 3)}`;
    if (width > limits.hopeless) refusals.push(text);
    else if (width > limits.wide) doubts.push(`${text}, ${(100 * width).toFixed(0)}% of the loss`);
  }
  if (refusals.length) return { level: "not identifiable", refused: true, reasons: refusals };
  const size = sum(law.vars.map((v) => Math.log(at[v])));
  if (law.tried !== null && size - law.most > law.tried + limits.slack) {
    const along = law.vars.join(" x "), beyond = digits(Math.exp(size - law.most), 3);
    const tried = `by hiding the largest runs the forms were tried over ${digits(Math.exp(law.tried), 3)} times only`;
    doubts.push(`the target lies ${beyond} times beyond the largest run in ${along}, and ${tried}`);
  }
  if (said.forms && said.forms.length > 1) {
    const losses = said.forms.map((f) => f.loss), apart = Math.max(...losses) / Math.min(...losses) - 1;
    if (apart > limits.agree) {
      const each = said.forms.map((f) => `${f.name} ${digits(f.loss, 4)}`).join(", ");
      doubts.push(`the forms disagree at the target by ${digits(100 * apart, 2)}%: ${each}`);
    }
  }
  doubts.push(...law.doubts);
  const level = law.published ? "published" : doubts.length ? "weak" : "supported";
  return { level, refused: false, reasons: doubts };
}

/** The least of a function between two ends, by golden sections. */
function least(f, low, high) {
  for (let i = 0; i < 60; i++) {
    const a = high - GOLDEN * (high - low), b = low + GOLDEN * (high - low);
    if (f(a) < f(b)) high = b;
    else low = a;
  }
  return (low + high) / 2;
}

/** N and D of a budget C = 6ND at which a form in N and D is least. */
function bestSplit(form, c) {
  const both = Math.log(c / 6), n = Math.exp(least((u) => FORMS[form.name](form.values, u, both - u).loss, 0, both));
  return { N: n, D: c / (6 * n) };
}

// ---- the law by hand: E + h (middle / x)^a, h being the loss above the floor at the middle of the data

const handLoss = (hand, { E, h, a }, x) => E + h * (hand.middle / x) ** a;

/** Half the sum of squared residuals of log loss: what the package's fit minimises. */
const handObjective = (hand, three) =>
  0.5 * sum(hand.loss.map((y, i) => Math.log(y / handLoss(hand, three, hand.x[i])) ** 2));

/** Height and exponent that fit best with the floor held: of every exponent the best height, by golden sections. */
function fitRest(hand, { E }) {
  const score = (lnH, a) => handObjective(hand, { E, h: Math.exp(lnH), a });
  const best = (a) => least((lnH) => score(lnH, a), -30, Math.log(10 * Math.max(...hand.loss)));
  const a = least((tried) => score(best(tried), tried), ...hand.ends.a);
  return { E, h: Math.exp(best(a)), a };
}

// ---- the IsoFLOP lab

/** So many draws from a normal distribution, the same for the same seed (mulberry32, then Box and Muller). */
function normals(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/**
 * A parabola in ln N through one budget's losses, and whether its minimum counts: what scaling_lib.fit.isoflops does with
 * all sizes (window=inf), whose bias is what the lab shows. The sizes are even in ln N, so 1, u and u^2 less its mean are
 * at right angles, and every coefficient is a projection.
 */
function parabola(sizes, losses) {
  const logs = sizes.map(Math.log), centre = mean(logs), u = logs.map((x) => x - centre);
  const middle = mean(u.map((x) => x * x)), bend = u.map((x) => x * x - middle), power = sum(bend.map((x) => x * x));
  const c1 = sum(u.map((x, k) => x * losses[k])) / (u.length * middle);
  const c2 = sum(bend.map((x, k) => x * losses[k])) / power, c0 = mean(losses) - c2 * middle;
  const at = (x) => c0 + c1 * x + c2 * x * x, curve = (n) => at(Math.log(n) - centre);
  const variance = sum(losses.map((y, k) => (y - at(u[k])) ** 2)) / (losses.length - 3);
  if (c2 <= Math.max(2 * Math.sqrt(variance / power), 1e-12 * Math.max(...losses))) return { curve, flag: "flat" };
  const vertex = -c1 / (2 * c2), lowest = losses.indexOf(Math.min(...losses));
  let flag = lowest === 0 || lowest === losses.length - 1 ? "edge" : "ok";
  if (vertex < Math.min(...u) || vertex > Math.max(...u)) flag = "outside";
  return { curve, flag, n: Math.exp(centre + vertex), loss: at(vertex) };
}

/** The straight line ln N*(ln C) through the minima that count; null where fewer than two do. */
function lineThrough(budgets, parabolas) {
  const used = parabolas.map((p, i) => [Math.log(budgets[i]), p]).filter(([, p]) => p.flag === "ok");
  if (used.length < 2) return null;
  const x = used.map(([c]) => c), y = used.map(([, p]) => Math.log(p.n)), cx = mean(x), cy = mean(y);
  const slope = sum(x.map((v, i) => (v - cx) * (y[i] - cy))) / sum(x.map((v) => (v - cx) ** 2));
  return { slope, optimal: (c) => Math.exp(cy + slope * (Math.log(c) - cx)) };
}
