// Curves to hover over. Content of #data: what `curves` in page.py returns.
const DATA = JSON.parse(document.getElementById("data").textContent);
const PANEL = document.getElementById("panel").content.firstChild;
const W = 520, H = 340, LEFT = 46, RIGHT = 24, TOP = 26, BOTTOM = 40;
const hidden = new Set();
const last = Math.max(1, ...DATA.nets.map(n => n.steps.at(-1) ?? 0));
const KEYS = ["train_error", "val_error"];
const positive = DATA.nets.flatMap(n => KEYS.flatMap(key => n[key].mean)).filter(e => e > 0);
const least = Math.min(DATA.top / 10, ...positive);
const view = {from: 0, to: last, top: DATA.top, log: false};
const x = s => LEFT + (W - LEFT - RIGHT) * (s - view.from) / (view.to - view.from);
const part = e => view.log ? Math.log(Math.max(e, least) / least) / Math.log(view.top / least) : e / view.top;
const y = e => H - BOTTOM - (H - TOP - BOTTOM) * Math.min(part(e), 1);
const inside = s => s >= view.from && s <= view.to;

function path(steps, values) {
  const points = steps.map((s, i) => [s, values[i]]).filter(([s]) => inside(s));
  return points.map(([s, e], i) => `${i ? "L" : "M"}${x(s).toFixed(1)},${y(e).toFixed(1)}`).join("");
}

// Elements are made one by one: text that is given as a child stays text, whatever is in it.
function element(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function drawn(name, attributes, ...children) {
  return fill(document.createElementNS(PANEL.firstChild.namespaceURI, name), attributes, children);
}

function fill(made, attributes, children) {
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

function swatch(net) {
  const made = element("span", {class: "swatch"});
  made.style.background = net.colour;
  return made;
}

function ticks(from, to, count) {
  const rough = (to - from) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough);
  const first = Math.ceil(from / step), number = Math.floor(to / step) - first + 1;
  return Array.from({length: number}, (_, i) => +((first + i) * step).toPrecision(6));
}

function heights() {
  if (!view.log) return ticks(0, view.top, 6);
  const powers = Array.from({length: 12}, (_, i) => 10 ** (i - 6));
  return powers.flatMap(p => [1, 2, 5].map(k => +(k * p).toPrecision(3))).filter(e => e >= least && e <= view.top);
}

function grid(title) {
  const rows = heights().flatMap(e => [
    drawn("line", {x1: LEFT, x2: W - RIGHT, y1: y(e), y2: y(e), stroke: "#e3e8ed"}),
    drawn("text", {x: LEFT - 7, y: y(e) + 4, "text-anchor": "end"}, e)]);
  const columns = ticks(view.from, view.to, 5).map(s =>
    drawn("text", {x: x(s), y: H - BOTTOM + 17, "text-anchor": "middle"}, s.toLocaleString("en")));
  return [...rows, ...columns,
    drawn("text", {x: W / 2, y: 16, "text-anchor": "middle", "font-weight": 600}, title),
    drawn("text", {x: W / 2, y: H - 4, "text-anchor": "middle"}, "iteration"),
    drawn("text", {transform: `translate(12 ${H / 2}) rotate(-90)`, "text-anchor": "middle"},
      view.log ? "error (%), log scale" : "error (%)")];
}

function curve(net, key, width, dash) {
  const {mean, std, singles} = net[key], high = mean.map((m, i) => m + std[i]), low = mean.map((m, i) => Math.max(0, m - std[i]));
  const back = [...net.steps].reverse(), band = path(net.steps, high) + path(back, low.reverse()).replace("M", "L") + "Z";
  const line = (steps, errors, width, opacity) =>
    drawn("path", {d: path(steps, errors), fill: "none", stroke: net.colour, "stroke-width": width, "stroke-dasharray": dash, opacity});
  const seeds = singles.map(one => line(one.steps, one.errors, .6, .7));
  const spread = !singles.length && std.some(Boolean) ? [drawn("path", {d: band, fill: net.colour, opacity: .15})] : [];
  return [...spread, ...seeds, line(net.steps, mean, width, 1)];
}

function describe(net, i) {
  const show = key => net[key].mean[i].toFixed(2) + (net.seeds > 1 ? " ± " + net[key].std[i].toFixed(2) : "");
  return element("div", {}, swatch(net), `${net.name}: train ${show("train_error")}, validation ${show("val_error")}`);
}

function nearest(steps, s) {
  return steps.reduce((best, step, i) => Math.abs(step - s) < Math.abs(steps[best] - s) ? i : best, 0);
}

function iterationAt(panel, event) {
  const box = panel.firstChild.getBoundingClientRect();
  const across = ((event.clientX - box.left) * W / box.width - LEFT) / (W - LEFT - RIGHT);
  return view.from + (view.to - view.from) * across;
}

function hover(panel, nets, event) {
  const svg = panel.querySelector("svg"), tip = panel.querySelector(".tip"), box = svg.getBoundingClientRect();
  const s = iterationAt(panel, event);
  const shown = nets.filter(n => n.steps.length && !hidden.has(n));
  if (!shown.length || s < view.from || s > view.to * 1.02) return leave(panel);
  const at = shown.map(n => n.steps[nearest(n.steps, s)]).reduce((a, b) => Math.abs(b - s) < Math.abs(a - s) ? b : a);
  const there = shown.filter(n => n.steps.at(-1) >= at), guide = svg.querySelector(".guide");
  guide.setAttribute("x1", x(at)); guide.setAttribute("x2", x(at)); guide.style.display = "";
  tip.replaceChildren(element("b", {}, `iteration ${at.toLocaleString("en")}`), ...there.map(n => describe(n, nearest(n.steps, at))));
  tip.style.display = "block";
  const right = event.clientX - box.left < box.width / 2;
  tip.style.left = (event.clientX - box.left + (right ? 14 : -14 - tip.offsetWidth)) + "px";
  tip.style.top = Math.max(0, event.clientY - box.top - 20) + "px";
}

function leave(panel) {
  panel.querySelector(".tip").style.display = "none";
  panel.querySelector(".guide").style.display = "none";
}

// A part of the iterations, and as much of the errors as the nets have there.
function look(from, to) {
  Object.assign(view, {from, to, top: DATA.top});
  const seen = DATA.nets.flatMap(n => KEYS.flatMap(key => n[key].mean.filter((_, i) => inside(n.steps[i]))));
  if (seen.length && to - from < last) view.top = Math.min(DATA.top, 1.1 * Math.max(...seen, 2 * least));
  render();
}

function zoom(one, other) {
  const [from, to] = [one, other].map(s => Math.min(Math.max(s, 0), last)).sort((a, b) => a - b);
  if (to - from > (view.to - view.from) / 50) look(from, to);  // else it was a click
}

function render() {
  document.getElementById("panels").replaceChildren(...DATA.panels.map(title => {
    const nets = DATA.nets.filter(n => n.panel === title);
    const lines = nets.filter(n => !hidden.has(n)).flatMap(n => [...curve(n, "train_error", 1.5, "5 3"), ...curve(n, "val_error", 2.6, "")]);
    const guide = drawn("line", {class: "guide", y1: TOP, y2: H - BOTTOM, stroke: "#8b98a5", "stroke-dasharray": "3 3"});
    guide.style.display = "none";
    const panel = PANEL.cloneNode(true);
    fill(panel.firstChild, {viewBox: `0 0 ${W} ${H}`}, [...grid(title), ...lines, guide]);
    panel.onmousedown = event => { event.preventDefault(); panel.began = iterationAt(panel, event); };
    panel.onmouseup = event => zoom(panel.began, iterationAt(panel, event));
    panel.ondblclick = () => look(0, last);
    panel.onmousemove = event => hover(panel, nets, event);
    panel.onmouseleave = () => leave(panel);
    return panel;
  }));
}

document.getElementById("legend").append(...DATA.nets.map(net => {
  const box = element("input", {type: "checkbox"});
  box.checked = true;
  box.onchange = () => { hidden[box.checked ? "delete" : "add"](net); render(); };
  return element("label", {}, box, swatch(net), `${net.name} `);
}));
document.getElementById("log").onchange = event => { view.log = event.target.checked; render(); };
document.getElementById("whole").onclick = () => look(0, last);
render();
