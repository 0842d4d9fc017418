"use strict";
/* The network in float64, the formula of netformer.exports.formula: cells of a row in, units of the target out, or
   logits and probabilities of its classes.
   A row holds a number per field: NaN for a gap, of a date seconds since 1970 UTC, of a category the position of its
   level, their number for any other. */

// W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969
const ERF = [
  [0.185777706184603153, 3.16112374387056560, 113.864154151050156, 377.485237685302021, 3209.37758913846947],
  [1, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062],
  [2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295, 298.635138197400131,
    881.952221241769090, 1712.04761263407058, 2051.07837782607147, 1230.33935479799725],
  [1, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019, 3290.79923573345963,
    4362.61909014324716, 3439.36767414372164, 1230.33935480374942],
  [0.0163153871373020978, 0.305326634961232344, 0.360344899949804439, 0.125781726111229246, 0.0160837851487422766,
    6.58749161529837803e-4],
  [1, 2.56852019228982242, 1.87295284992346725, 0.527905102951428412, 0.0605183413124413191, 2.33520497626869185e-3],
];
const ratio = (part, x) => {
  const p = ERF[part], q = ERF[part + 1];
  let above = 0, below = 0;
  for (let i = 0; i < p.length; i++) { above = above * x + p[i]; below = below * x + q[i]; }
  return above / below;
};
const erf = x => {
  const y = Math.abs(x);
  if (y <= 0.46875) return x * ratio(0, y * y);
  if (y >= 6) return Math.sign(x);
  const s = 1 / (y * y), tail = y <= 4 ? ratio(2, y) : (0.56418958354775628695 - s * ratio(4, s)) / y;
  return Math.sign(x) * (1 - Math.exp(-y * y) * tail);
};
const ACTIVATE = {
  identity: a => a,
  relu: a => Math.max(a, 0),
  tanh: Math.tanh,
  sigmoid: a => 1 / (1 + Math.exp(-a)),
  gelu: a => 0.5 * a * (1 + erf(a * Math.SQRT1_2)),
  step: a => (a > 0 ? 1 : 0),
};

/* Base64 of little-endian numbers: "f" float32, "m" float32 to be divided by the count, "d" float64. */
const decoded = (text, count) => {
  const { buffer } = Uint8Array.from(atob(text.slice(1)), c => c.charCodeAt(0));
  return Float64Array.from(text[0] === "d" ? new Float64Array(buffer) : new Float32Array(buffer), v => text[0] === "m" ? v / count : v);
};

/* A number as people write it: NaN for a gap, undefined for what is none. form: "," for a decimal comma. */
const numberOf = (written, form, gaps) => {
  let text = written.trim();
  if (gaps.includes(text.toLowerCase())) return NaN;
  if (/^(true|false)$/i.test(text)) return +/^t/i.test(text);
  text = text.replace(/[\s'$€£¥₹%]|^(?:usd|eur|gbp|chf)|(?:usd|eur|gbp|chf)$/gi, "");
  if (/^\(.*\)$/.test(text)) text = `-${text.slice(1, -1)}`;
  const marks = form === "," ? /^[-+]?[1-9]\d{0,2}(\.\d{3})+(?=,|$)/ : /^[-+]?[1-9]\d{0,2}(,\d{3})+(?=\.|$)/;
  text = text.replace(marks, whole => whole.replace(/[.,]/g, ""));
  if (form === ",") text = text.replace(",", ".");
  const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
  return Number.isFinite(value) ? value : undefined;
};

const network = data => {
  const { columns, inputs: steps, target } = data;
  const dot = (weights, values) => { let sum = 0; for (let i = 0; i < weights.length; i++) sum += weights[i] * values[i]; return sum; };
  const over = text => decoded(text, data.count), minus = values => values.map(v => -v);
  const outputOf = part => ({ bias: part.bias, skip: decoded(part.skip), heads: part.heads.map(over) });
  const outputs = data.outputs.map(outputOf), targets = data.targets ?? [target];
  const intervals = data.intervals ?? (data.interval ? [data.interval] : []), spreads = intervals.map(outputOf);
  const two = data.classes?.length === 2; // one output, the logit of the second: that of the first is it with the other sign
  if (two) outputs.unshift({ bias: -outputs[0].bias, skip: minus(outputs[0].skip), heads: outputs[0].heads.map(minus) });
  const trees = (data.trees ?? []).map(one => ({ ...one, cut: decoded(one.cut), leaf: one.leaf.map(over) }));
  if (two) trees.forEach(({ leaf }) => leaf.unshift(minus(leaf[0])));
  const bodies = data.bodies.map(body => ({ reads: body.reads, layers: body.layers.map(([name, weight, bias]) => (
    { activate: ACTIVATE[name], weight: decoded(weight), bias: decoded(bias) })) }));
  const cut = (x, low, high) => Math.min(Math.max(x, low), high);

  const gap = (x, column) => Number.isNaN(x) || (column.gaps ?? []).includes(x);
  const input = (row, { column: index, part, constants, more }) => {
    const column = columns[index], unknown = gap(row[index], column);
    if (part === "missing") return constants[+unknown];
    if (part === "code") {
      const place = unknown ? -1 : more.indexOf(row[index]);
      return constants[place < 0 ? more.length : place];
    }
    let x = unknown ? column.fill : row[index];
    if (part === "level") return constants[x];
    if (part !== "value") x = Math[part](2 * Math.PI * (x / more[0]));
    const [center, scale, low, high, shift, deviation] = constants;
    const r = cut((x - center) / scale, low, high);
    return (r / Math.sqrt(1 + (r / data.squash) ** 2) - shift) / deviation;
  };
  const rest = decoded(data.rest); // of columns without a field: those of a typical row
  const inputs = row => {
    const z = rest.slice();
    for (const step of steps) z[step.input] = input(row, step);
    return z;
  };
  const layer = ({ weight, bias }, h) => {
    const a = new Float64Array(bias.length), n = weight.length / bias.length;
    for (let u = 0; u < a.length; u++) {
      let sum = bias[u];
      for (let i = 0, at = u * n; i < n; i++) sum += weight[at + i] * h[i];
      a[u] = sum;
    }
    return a;
  };
  const first = (body, z) => layer(body.layers[0], body.reads.map(i => z[i]));
  const activated = (activate, a) => { for (let u = 0; u < a.length; u++) a[u] = activate(a[u]); return a; };
  const last = (body, a) => { // the last hidden units from the sums of the first layer, which become its units
    let h = activated(body.layers[0].activate, a);
    for (let i = 1; i < body.layers.length; i++) h = activated(body.layers[i].activate, layer(body.layers[i], h));
    return h;
  };
  const places = ({ depth, column, cut }, z) => { // of a row among the leaves of all trees: of the one in each that it is in
    const found = Array.from({ length: cut.length / depth }, (_, tree) => tree);
    cut.forEach((v, q) => { const tree = Math.floor(q / depth); found[tree] = 2 * found[tree] + (z[column[q]] > v); });
    return found;
  };
  const leaves = (z, k) => trees.reduce((y, one) => one.leaf[k - one.first] ? places(one, z).reduce((s, at) => s + one.leaf[k - one.first][at], y) : y, 0);
  const sum = (out, z, hidden) => hidden.reduce((y, h, b) => y + dot(out.heads[b], h), out.bias + dot(out.skip, z));

  /* What is said of a row: its prediction, and the scale that intervals are multiples of, of several targets those of
     each; or by class its logit and its probability. */
  const said = z => {
    const hidden = bodies.map(body => last(body, first(body, z)));
    const unit = k => targets[data.classes ? 0 : k];
    return [hidden, outputs.map((output, k) => (sum(output, z, hidden) + leaves(z, k)) * unit(k).scale + unit(k).center)];
  };
  const answer = row => {
    const z = inputs(row), [hidden, answers] = said(z);
    if (data.classes) {
      const most = Math.max(...answers), parts = answers.map(y => two ? 1 / (1 + Math.exp(-y)) : Math.exp(y - most));
      const whole = two ? 1 : parts.reduce((s, v) => s + v, 0);
      return { logits: answers, probabilities: parts.map(v => v / whole) };
    }
    const found = answers.map((prediction, k) => ({ prediction, number: k }));
    spreads.forEach((spread, k) => { found[k].scale = Math.exp(cut(sum(spread, z, hidden), ...intervals[k].bounds)) * targets[k].scale; });
    return data.targets ? { targets: found } : found[0];
  };
  /* The score of a quantile: linear in log(q / (1 - q)) between levels, in proportion to it beyond. */
  const score = (q, { levels, scores }) => {
    const logit = p => Math.log(p / (1 - p)), at = logit(q), end = levels.length - 1;
    if (q <= levels[0] || q >= levels[end]) {
      const edge = q < 0.5 ? 0 : end;
      return scores[edge] * (scores[edge] * at > 0 ? at / logit(levels[edge]) : 1);
    }
    const i = levels.findIndex(level => level > q), low = logit(levels[i - 1]);
    return scores[i - 1] + (scores[i] - scores[i - 1]) * (at - low) / (logit(levels[i]) - low);
  };
  const interval = ({ prediction, scale, number }, coverage) => [(1 - coverage) / 2, (1 + coverage) / 2].map(q => prediction + scale * score(q, intervals[number]));

  const shapley = (v, k) => { // of k players, from the values of all their sets
    const share = [1 / k], size = [0], parts = new Float64Array(k); // share of v(S + c) - v(S), by |S|
    for (let s = 1; s < k; s++) share.push(share[s - 1] * s / (k - s));
    for (let set = 1; set < v.length; set++) size.push(size[set & (set - 1)] + 1);
    v.forEach((v, set) => parts.forEach((_, i) => { parts[i] += set >> i & 1 ? share[size[set] - 1] * v : -share[Math.min(size[set], k - 1)] * v; }));
    return parts;
  };

  /* Shapley values of the fields against a typical row (netformer.exports.explain), by body: of k fields that differ
     from it, all 2^k sets up to data.exact of them, else sets along random orders and the same orders reversed.
     number: of the class whose logit they add up to, or of the target. */
  const typical = columns.map(column => column.typical), z0 = inputs(typical), bases = said(z0)[1];
  const owns = columns.map((_, index) => steps.filter(step => step.column === index).map(step => step.input));
  const owner = {};
  owns.forEach((own, index) => own.forEach(i => { owner[i] = index; }));
  const starts = bodies.map(body => first(body, z0));
  const contributions = (row, number = 0) => {
    const z = inputs(row), output = outputs[number], unit = targets[data.classes ? 0 : number].scale, values = owns.map(own => own.reduce((v, i) => v + output.skip[i] * (z[i] - z0[i]), 0));
    const variances = values.map(() => 0);
    bodies.forEach((body, b) => {
      const { weight, bias } = body.layers[0], n = body.reads.length;
      const moved = [];
      owns.forEach((own, index) => {
        const some = own.map(i => body.reads.indexOf(i)).filter(at => at >= 0 && z[body.reads[at]] !== z0[body.reads[at]]);
        if (some.length) moved.push({ index, by: bias.map((_, u) => some.reduce((v, at) =>
          v + weight[u * n + at] * (z[body.reads[at]] - z0[body.reads[at]]), 0)) });
      });
      const worth = a => dot(output.heads[b], last(body, a.slice())), plus = (a, by) => a.map((x, u) => x + by[u]), k = moved.length;
      if (k <= data.exact) {
        const sums = [starts[b]];
        for (let set = 1; set < 2 ** k; set++) {
          const bit = 31 - Math.clz32(set);
          sums.push(plus(sums[set ^ (1 << bit)], moved[bit].by));
        }
        shapley(sums.map(worth), k).forEach((v, i) => { values[moved[i].index] += v; });
        return;
      }
      const pairs = Math.max(data.least_pairs, Math.floor(data.sets / (2 * k))), draws = moved.map(() => []);
      let seed = b + 1;
      const random = () => { // mulberry32
        seed = seed + 0x6D2B79F5 | 0;
        let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
        t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
        return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
      };
      for (let pair = 0; pair < pairs; pair++) {
        const order = moved.map((_, i) => i);
        for (let i = k - 1; i > 0; i--) { const j = Math.floor(random() * (i + 1)); [order[i], order[j]] = [order[j], order[i]]; }
        const found = moved.map(() => 0);
        for (const way of [order, [...order].reverse()]) {
          let a = starts[b], before = worth(a);
          for (const i of way) {
            a = plus(a, moved[i].by);
            const now = worth(a);
            found[i] += (now - before) / 2;
            before = now;
          }
        }
        found.forEach((v, i) => draws[i].push(v));
      }
      draws.forEach((list, i) => {
        const mean = list.reduce((s, v) => s + v, 0) / pairs;
        values[moved[i].index] += mean;
        variances[moved[i].index] += list.reduce((s, v) => s + (v - mean) ** 2, 0) / (pairs - 1) / pairs;
      });
    });
    trees.forEach(one => {
      const own = one.leaf[number - one.first], there = places(one, z0);
      if (own) places(one, z).forEach((here, tree) => {
        const flips = new Map(); // by field the answers that differ
        for (let i = 0; i < one.depth; i++) {
          const bit = (here ^ there[tree]) & (1 << (one.depth - 1 - i)), asked = one.column[tree * one.depth + i];
          if (bit) flips.set(owner[asked], flips.get(owner[asked]) | bit);
        }
        const fields = [...flips.keys()], sets = [there[tree]];
        fields.forEach(field => sets.push(...sets.map(at => at ^ flips.get(field))));
        shapley(sets.map(at => own[at]), fields.length).forEach((v, i) => { values[fields[i]] += v; });
      });
    });
    return { base: bases[number], values: values.map(v => v * unit), errors: variances.map(v => Math.sqrt(v) * unit) };
  };
  return { answer, interval, contributions, gap };
};
