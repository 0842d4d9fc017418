/* The page: fields made of the data, and what the network says of them. Text of the table enters as text alone. */
const data = JSON.parse(document.getElementById("data").textContent);
const net = network(data), { columns, classes, targets } = data;
const at = id => document.getElementById(id);
const make = (tag, props = {}, ...children) => { const node = Object.assign(document.createElement(tag), props); node.append(...children); return node; };
const draw = (tag, marks, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(marks)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const POINTS = 80, SHOWN = 12, FEW = 10, MANY = 50; // of a curve; contributions; levels or classes in their order; most levels
const PAUSE = 50; // milliseconds before contributions are computed, which takes as long

/* Numbers for people: to a hundredth or so of `size`. */
const shown = (x, size) => {
  if (!Number.isFinite(x)) return "–";
  const places = Math.ceil(-Math.log10(size / 100));
  if (places > 9 || Math.abs(x) >= 1e15) return x.toPrecision(5).replace("-", "−");
  const digits = Math.max(0, places);
  return x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: "min2" }).replace("-", "−");
};
const target = () => (targets ? targets[inFocus] : data.target);
const covered = data.interval ?? data.intervals;
const amount = x => shown(x, target().scale);
const signed = x => (x > 0 ? "+" : "") + amount(x);
const percent = p => (p < 5e-4 ? "<\u202f0.1\u00a0%" : p > 0.9995 ? ">\u202f99.9\u00a0%" : `${(100 * p).toFixed(p < 0.01 || p > 0.99 ? 1 : 0)}\u00a0%`);
const worth = y => (classes ? percent(y) : amount(y)); // of what the curve shows
const label = k => classes[k].trim() || "– empty –";
const plainly = (x, column) => { const text = String(x); return column.form === "," ? text.replace(".", ",") : text; };
const dated = (x, column) => new Date(x * 1000).toISOString().slice(0, column.timed ? 16 : 10).replace("T", " ");
/* A number of a column, to a thousandth of its range. */
const tidy = (x, column) => {
  const places = Math.ceil(-Math.log10((column.high - column.low) / 1000));
  return plainly(places >= 0 && places < 12 ? +x.toFixed(places) : +x.toPrecision(9), column).replace("-", "−");
};
const levelOf = text => (text === "" ? "not known" : text);
/* A cell in words. */
const cell = (x, i) => {
  const column = columns[i];
  if (net.gap(x, column)) return "not known";
  if (column.kind === "category") return x < column.levels.length ? levelOf(column.levels[x]) : "any other";
  return column.kind === "date" ? dated(x, column) : tidy(x, column);
};

let row, focus = 0, wrong = new Set();
let chosen = classes?.length === 2 ? 1 : targets ? 0 : -1, inFocus = chosen; // the class or target in focus: that of the list, -1 for the most probable; its number
const subject = () => (classes ? `Probability of ${label(inFocus)}` : target().name);
const answerTo = cells => { const found = net.answer(cells); return targets ? found.targets[inFocus] : found; };

const fields = columns.map((column, i) => {
  const id = `f${i}`, hint = make("p", { id: `${id}h`, className: "hint" }), said = make("span", { id: `${id}s`, className: "said" });
  const control = make(column.kind === "category" ? "select" : "input", { id, autocomplete: "off" });
  const line = make("div", { className: "row" }, control);
  let unknown = null;
  if (column.kind === "category") {
    const places = column.levels.map((_, place) => place).filter(place => column.levels[place] !== "");
    if (!column.ordered && places.length > FEW) {
      places.sort((a, b) => column.levels[a].localeCompare(column.levels[b], "en", { numeric: true }));
    }
    for (const place of places) control.append(make("option", { value: place, textContent: column.levels[place] }));
    control.append(make("option", { value: column.levels.length, textContent: "– any other –" }));
    control.append(make("option", { value: "", textContent: "– not known –" }));
    hint.textContent = `typical: ${cell(column.typical, i)}`;
  } else {
    if (column.kind === "date") {
      control.type = column.timed ? "datetime-local" : "date";
      if (column.timed) control.step = 1;
    } else {
      control.type = "text";
      control.inputMode = column.low < 0 ? "text" : "decimal";
    }
    unknown = make("input", { type: "checkbox", id: `${id}u` });
    const label = make("label", {}, unknown, " not known");
    label.prepend(make("span", { className: "away", textContent: `${column.name}: ` }));
    line.append(label);
    const [low, high, typical] = [column.low, column.high, column.typical].map(x => cell(x, i));
    hint.textContent = `${low} to ${high}, typical ${typical}${column.timed ? ", UTC" : ""}${column.seconds ? ", in seconds" : ""}`;
    if (column.levels.length) {
      control.setAttribute("list", `${id}l`);
      line.append(make("datalist", { id: `${id}l` }, ...column.levels.map(x => make("option", { value: plainly(x, column) }))));
    }
  }
  control.setAttribute("aria-describedby", `${said.id} ${hint.id}`);
  const box = make("div", { className: "field" }, make("label", { htmlFor: id, textContent: column.name }), line, said, hint);
  at("grid").append(box);
  at("along").append(make("option", { value: i, textContent: column.name }));
  return { box, control, unknown, said };
});

/* The field as its cell says. */
const write = i => {
  const column = columns[i], { control, unknown } = fields[i], x = row[i], gap = net.gap(x, column);
  if (column.kind === "category") control.value = gap || column.levels[x] === "" ? "" : x;
  else if (gap) control.value = "";
  else if (column.kind === "number") control.value = plainly(x, column);
  else control.value = new Date(x * 1000).toISOString().slice(0, column.timed ? 19 : 10);
  if (unknown) unknown.checked = gap;
};
/* The cell as its field says; undefined where it says nothing that can be read. */
const read = i => {
  const column = columns[i], { control } = fields[i], text = control.value;
  if (column.kind === "category") return text === "" ? NaN : Number(text);
  if (column.kind === "number") return column.words.includes(text.trim()) ? NaN : numberOf(text.replace("−", "-"), column.form, data.words);
  if (control.validity.badInput) return undefined;
  const time = Date.parse(`${text}${column.timed ? "" : "T00:00"}Z`);
  return text === "" ? NaN : Number.isNaN(time) ? undefined : time / 1000;
};
const remark = i => {
  const column = columns[i], x = row[i], typical = cell(column.typical, i);
  if (wrong.has(i)) return `not a ${column.kind}`;
  if (column.kind === "category") return x === column.levels.length ? "read as any level that is not in the list" : "";
  if (Number.isNaN(x)) return column.knows_gaps ? "not known: the table had such gaps too" : `not known: read as ${typical}`;
  if (column.gaps?.includes(x)) return `${plainly(x, column)} stands for a gap in this table`;
  if (x < column.low || x > column.high) return `beyond the table: read as ${cell(x < column.low ? column.low : column.high, i)}`;
  if (column.levels.length && !column.levels.includes(x)) return "not among the values of the table";
  const text = fields[i].control.value.trim();
  return column.kind === "number" && /[^-+\d.e]/i.test(text.replace(column.form || ".", ".")) ? `read as ${plainly(x, column)}` : "";
};

const line = (name, what, track, value, shown, mark) => make("tr", { className: mark }, make("th", { scope: "row" }, name, make("small", { textContent: what })),
  make("td", {}, track), make("td", {}, make("data", { value, textContent: shown })));
const barred = (mark, from, length) => { // a bar in percent of its track
  const bar = make("span", { className: mark });
  bar.style.left = `${from}%`;
  bar.style.width = `${length}%`;
  return bar;
};
const classified = probabilities => {
  const places = classes.map((_, k) => k), sorted = [...places].sort((a, b) => probabilities[b] - probabilities[a] || a - b), top = sorted[0];
  inFocus = chosen < 0 ? top : chosen;
  at("prediction").replaceChildren(make("small", { textContent: "most probable: " }), `${label(top)}, `, make("data", { value: probabilities[top], textContent: percent(probabilities[top]) }));
  const some = classes.length > FEW ? sorted.slice(0, FEW) : places;
  if (!some.includes(inFocus)) some.push(inFocus);
  at("bars").tBodies[0].replaceChildren(...some.map(k => line(label(k), "", make("div", { className: "track" }, barred("more", 0, 100 * probabilities[k])),
    probabilities[k], percent(probabilities[k]), k === inFocus ? "on" : "")));
  if (classes.length > FEW) at("shares-note").textContent = `The ${FEW} most probable of ${classes.length} classes; the others together ${percent(Math.max(0, 1 - some.reduce((s, k) => s + probabilities[k], 0)))}.`;
  at("of").textContent = at("of").title = subject();
  at("parts-title").textContent = `What each column contributed to the logit of ${label(inFocus)}`;
};

const coverage = () => Number(at("coverage").value);
const targeted = found => {
  at("bars").tBodies[0].replaceChildren(...found.map((one, k) => {
    const worth = x => shown(x, targets[k].scale), ends = covered && net.interval(one, coverage()).map(worth);
    return line(targets[k].name, ends ? `${ends[0]} to ${ends[1]}` : "", "", one.prediction, worth(one.prediction), k === inFocus ? "on" : "");
  }));
  at("target").textContent = at("target").title = at("of").textContent = at("of").title = subject();
  at("parts-title").textContent = `What each column contributed to ${subject()}`;
};
const answered = () => {
  at("unread").textContent = wrong.size ? `cannot read ${[...wrong].map(i => columns[i].name).join(", ")}` : "";
  at("covers").hidden = !covered || wrong.size > 0;
  at("shares").className = wrong.size ? "stale" : "";
  if (wrong.size) {
    at("prediction").textContent = "–";
    at("between").textContent = "";
    return;
  }
  if (classes) return classified(net.answer(row).probabilities);
  inFocus = chosen;
  if (targets) targeted(net.answer(row).targets);
  const found = answerTo(row);
  at("prediction").replaceChildren(make("data", { value: found.prediction, textContent: amount(found.prediction) }));
  at("between").replaceChildren();
  if (found.scale === undefined) return;
  const ends = net.interval(found, coverage()).map(x => make("data", { value: x, textContent: amount(x) }));
  at("between").append(ends[0], " and ", ends[1]);
};

const contributed = () => {
  const { base, values, errors } = net.contributions(row, Math.max(0, inFocus)), moving = columns.map((_, i) => i).filter(i => values[i] !== 0);
  moving.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  const total = values.reduce((s, v) => s + v, 0), error = Math.max(0, ...errors);
  const largest = Math.max(...values.map(Math.abs)) || 1;
  const added = (name, what, value) => {
    const zero = make("span", { className: "zero" }), share = 50 * Math.abs(value) / largest;
    zero.style.left = "50%";
    const bar = barred(value < 0 ? "less" : "more", value < 0 ? 50 - share : 50, share);
    return line(name, what, make("div", { className: "track" }, zero, bar), value, signed(value), "");
  };
  const whole = (name, cells, value) => line(name, classes ? `probability ${percent(net.answer(cells).probabilities[inFocus])}` : "", "", value, amount(value), "sum");
  const some = moving.length > SHOWN ? moving.slice(0, SHOWN - 1) : moving, others = moving.slice(some.length);
  const lines = [whole("typical row", columns.map(column => column.typical), base), ...some.map(i => added(columns[i].name, cell(row[i], i), values[i]))];
  lines.forEach((tr, n) => { if (n) tr.dataset.column = some[n - 1]; });
  if (others.length) lines.push(added(`${others.length} other columns`, "", others.reduce((s, i) => s + values[i], 0)));
  lines.push(whole("this row", row, base + total));
  at("parts").tBodies[0].replaceChildren(...lines);
  at("parts-note").textContent = moving.length
    ? `Against the typical row, where every column is at its typical cell. ${error ? `Sampled: standard error at most ${amount(error)}.` : "Exact Shapley values; they add up."}`
    : "This is the typical row: every column is at its median, or at its most frequent level. Change one, and see what it moves.";
};

const nice = (low, high, count) => {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(one => one * power >= raw), ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  return ticks;
};
const along = x => {
  const cells = [...row];
  cells[focus] = x;
  const found = answerTo(cells);
  const y = classes ? found.probabilities[inFocus] : found.prediction;
  return { x, y, ends: found.scale === undefined ? [y, y] : net.interval(found, coverage()) };
};
const levels = column => {
  const places = column.levels.map((_, place) => place).slice(0, MANY), here = net.gap(row[focus], column) ? column.fill : row[focus];
  if (!places.includes(here)) places.push(here);
  const points = places.map(along);
  if (!column.ordered) points.sort((a, b) => b.y - a.y);
  const low = classes ? 0 : Math.min(...points.map(p => p.ends[0])), high = classes ? 1 : Math.max(...points.map(p => p.ends[1]));
  const place = y => `${100 * (y - low) / (high - low || 1)}%`;
  const body = make("tbody", {}, ...points.map(({ x, y, ends }) => {
    const range = make("span", { className: "range" }), point = make("span", { className: "point" });
    range.style.left = place(ends[0]); range.style.right = `calc(100% - ${place(ends[1])})`; point.style.left = place(y);
    return make("tr", { className: x === here ? "on" : "" }, make("th", { scope: "row", textContent: cell(x, focus) }),
      make("td", {}, make("div", { className: "track" }, range, point)), make("td", { textContent: worth(y) }));
  }));
  const list = make("div", { className: "levels", tabIndex: 0 }, make("table", {}, body));
  list.setAttribute("role", "region");
  list.setAttribute("aria-label", `${classes ? subject() : "prediction"} for each level of ${column.name}`);
  at("curve").replaceChildren(list);
  const marked = body.querySelector(".on");
  if (marked) list.scrollTop = marked.offsetTop - list.clientHeight / 2;
};
const curve = () => {
  const column = columns[focus];
  fields.forEach(({ box }, i) => box.classList.toggle("on", i === focus));
  at("along").value = focus;
  at("slide").hidden = column.kind === "category" || column.low === column.high;
  at("curve-note").textContent = `All other columns as they stand in the fields${covered ? `; shaded: where ${100 * coverage()} % of such rows lie` : ""}.`;
  if (column.kind === "category") {
    if (column.levels.length > MANY) at("curve-note").prepend(`The ${MANY} most frequent of ${column.levels.length} levels. `);
    return levels(column);
  }
  const codes = column.levels.length > 0, { low, high } = column;
  const xs = codes ? column.levels : Array.from({ length: POINTS + 1 }, (_, k) => low + (high - low) * k / POINTS);
  const points = xs.map(along), gap = net.gap(row[focus], column), here = along(row[focus]);
  const every = [...points, here].flatMap(p => [...p.ends, p.y]), largest = Math.max(...every);
  const least = classes ? 0 : Math.min(...every), most = classes && largest > 0.5 ? 1 : largest; // probabilities from 0 on
  const width = Math.max(240, at("curve").clientWidth), height = 210, left = 52, right = width - 12, top = 8, bottom = height - 22;
  const X = x => left + (right - left) * (Math.min(Math.max(x, low), high) - low) / (high - low || 1);
  const Y = y => bottom - (bottom - top) * (y - least) / (most - least || 1);
  const chart = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  for (const y of nice(least, most, 5)) {
    chart.append(draw("line", { class: "axis", x1: left, x2: right, y1: Y(y), y2: Y(y) }));
    chart.append(draw("text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, classes ? `${+(100 * y).toPrecision(6)} %` : shown(y, Math.max(1e-12, (most - least) * 5))));
  }
  const dates = column.kind === "date", ticks = dates ? [0, 1, 2].map(k => low + (high - low) * k / 2) : nice(low, high, width > 330 ? 8 : 5);
  for (const x of ticks) {
    const anchor = X(x) > right - 30 ? "end" : X(x) < left + 30 ? "start" : "middle";
    chart.append(draw("text", { x: X(x), y: height - 6, "text-anchor": anchor }, dates ? dated(x, { timed: high - low < 3e5 }) : shown(x, (high - low) * 10)));
  }
  const path = (list, of) => list.map(p => `${X(p.x).toFixed(1)},${Y(of(p)).toFixed(1)}`);
  if (codes) for (const p of points) {
    chart.append(draw("line", { class: "bar", x1: X(p.x), x2: X(p.x), y1: Y(p.ends[0]), y2: Y(p.ends[1]) }));
    chart.append(draw("circle", { class: "dot", cx: X(p.x), cy: Y(p.y), r: 2.5 }));
  } else {
    chart.append(draw("polygon", { class: "band", points: [...path(points, p => p.ends[1]), ...path(points, p => p.ends[0]).reverse()].join(" ") }));
    chart.append(draw("polyline", { class: "curve", points: path(points, p => p.y).join(" ") }));
  }
  const place = X(gap ? column.fill : row[focus]);
  chart.append(draw("line", { class: "guide", x1: place, x2: place, y1: top, y2: bottom }));
  chart.append(draw("circle", { class: "here", cx: place, cy: Y(here.y), r: 4.5 }));
  const ys = points.map(p => p.y);
  chart.setAttribute("aria-label", `${subject()} along ${column.name}, from ${cell(low, focus)} to ${cell(high, focus)}: ${worth(ys[0])} at the start, ${worth(ys.at(-1))} at the end, between ${worth(Math.min(...ys))} and ${worth(Math.max(...ys))}; at ${cell(row[focus], focus)} ${worth(here.y)}`);
  at("curve").replaceChildren(chart);
  const slide = at("slide");
  slide.style.marginLeft = `${left - 8}px`;
  slide.style.width = `${right - left + 16}px`;
  slide.setAttribute("aria-label", column.name);
  if (document.activeElement !== slide) slide.value = gap ? 200 * (column.fill - low) / (high - low) : 200 * (row[focus] - low) / (high - low);
  slide.setAttribute("aria-valuetext", cell(row[focus], focus));
};

/* Does it soon and once, however often it is asked to meanwhile; not while a field cannot be read. */
const soon = (wait, work) => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    wait(() => { asked = false; if (!wrong.size) work(); });
  };
};
const redraw = soon(requestAnimationFrame, () => curve()), explain = soon(work => setTimeout(work, PAUSE), () => contributed());
const update = () => {
  answered();
  fields.forEach(({ control, said }, i) => {
    said.textContent = remark(i);
    control.setAttribute("aria-invalid", wrong.has(i));
  });
  redraw();
  explain();
};
const reset = () => {
  row = columns.map(column => column.typical);
  wrong = new Set();
  columns.forEach((_, i) => write(i));
  update();
};
fields.forEach(({ box, control, unknown }, i) => {
  box.addEventListener("focusin", () => { if (focus !== i) { focus = i; update(); } });
  control.addEventListener("input", () => {
    const x = read(i);
    wrong[x === undefined ? "add" : "delete"](i);
    if (x !== undefined) row[i] = x;
    if (unknown && x !== undefined) unknown.checked = net.gap(x, columns[i]);
    update();
  });
  unknown?.addEventListener("input", () => {
    row[i] = unknown.checked ? NaN : columns[i].typical;
    wrong.delete(i);
    write(i);
    update();
  });
});
at("slide").addEventListener("input", () => {
  const column = columns[focus], { low, high } = column, x = low + (high - low) * at("slide").value / 200;
  const whole = [low, high, column.typical].every(Number.isInteger) && high - low >= 20;
  if (column.levels.length) row[focus] = column.levels.reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
  else if (column.kind === "date") row[focus] = column.timed ? Math.round(x / 60) * 60 : Math.round(x / 86400) * 86400;
  else row[focus] = whole ? Math.round(x) : x === low || x === high ? x : +x.toPrecision(Math.max(3, Math.ceil(Math.log10(Math.abs(x) / (high - low) * 1000))));
  wrong.delete(focus);
  write(focus);
  update();
});
at("along").addEventListener("input", () => { focus = Number(at("along").value); update(); });
at("coverage").addEventListener("input", update);
at("class").addEventListener("input", () => { chosen = Number(at("class").value); update(); });
at("fields").addEventListener("submit", event => event.preventDefault());
at("fields").addEventListener("reset", event => { event.preventDefault(); reset(); });
addEventListener("resize", update);

document.title = `${(targets ?? [data.target]).map(one => one.name).join(", ")}, predicted by a small network`;
at("title").textContent = document.title;
at("target").textContent = at("of").textContent = at("of").title = at("target").title = (classes ? data.target : target()).name;
at("shares").hidden = !classes && !targets;
if (targets) {
  at("shares-title").textContent = "Prediction of each target";
  targets.forEach((one, k) => at("class").append(make("option", { value: k, textContent: one.name })));
}
if (classes) {
  if (classes.length > 2) at("class").append(make("option", { value: -1, textContent: "the most probable class" }));
  classes.forEach((_, k) => at("class").append(make("option", { value: k, textContent: label(k) })));
  at("class").value = chosen;
}
for (const [name, text] of data.facts) at("facts").append(make("dt", { textContent: name }), make("dd", { textContent: text }));
for (const text of [
  "Cells beyond what the table held are read as its edge; the network knows nothing out there.",
  "A contribution says how this answer differs from that for a typical row because of a column, not what would happen if someone changed it.",
  ...(classes ? [
    classes.length === 2 ? "The logit of a class is 0 where it has 50 %; 1 more multiplies its odds by 2.7." : "The larger the logit of a class beside those of the others, the more probable it is: 1 more multiplies its odds against each of them by 2.7.",
  ] : [covered ? "Intervals come from the errors of rows left out when the network was made. They hold over rows like those of the table." : "This network has no intervals."]),
]) at("notes").append(make("li", { textContent: text }));
reset();
