// Curves to hover over. Content of #data: what `curves` in page.py returns.
const DATA = JSON.parse(document.getElementById("data").textContent);
const PANEL = document.getElementById("panel").content.firstChild;
const W = 520, H = 340, LEFT = 46, RIGHT = 12, TOP = 26, BOTTOM = 40;
const hidden = new Set();
const last = Math.max(1, ...DATA.nets.map(n => n.steps.at(-1) ?? 0));
const x = s => LEFT + (W - LEFT - RIGHT) * s / last;
const y = e => H - BOTTOM - (H - TOP - BOTTOM) * Math.min(e, DATA.top) / DATA.top;
const path = (steps, values) => steps.map((s, i) => `${i ? "L" : "M"}${x(s).toFixed(1)},${y(values[i]).toFixed(1)}`).join("");

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

function ticks(most, count) {
  const rough = most / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= rough);
  return Array.from({length: Math.floor(most / step) + 1}, (_, i) => +(i * step).toPrecision(6));
}

function grid(title) {
  const rows = ticks(DATA.top, 6).flatMap(e => [
    drawn("line", {x1: LEFT, x2: W - RIGHT, y1: y(e), y2: y(e), stroke: "#e3e8ed"}),
    drawn("text", {x: LEFT - 7, y: y(e) + 4, "text-anchor": "end"}, e)]);
  const columns = ticks(last, 5).map(s =>
    drawn("text", {x: x(s), y: H - BOTTOM + 17, "text-anchor": "middle"}, s.toLocaleString("en")));
  return [...rows, ...columns,
    drawn("text", {x: W / 2, y: 16, "text-anchor": "middle", "font-weight": 600}, title),
    drawn("text", {x: W / 2, y: H - 4, "text-anchor": "middle"}, "iteration"),
    drawn("text", {transform: `translate(12 ${H / 2}) rotate(-90)`, "text-anchor": "middle"}, "error (%)")];
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

function hover(panel, nets, event) {
  const svg = panel.querySelector("svg"), tip = panel.querySelector(".tip"), box = svg.getBoundingClientRect();
  const s = last * ((event.clientX - box.left) * W / box.width - LEFT) / (W - LEFT - RIGHT);
  const shown = nets.filter(n => n.steps.length && !hidden.has(n));
  if (!shown.length || s < 0 || s > last * 1.02) return leave(panel);
  const at = shown[0].steps[nearest(shown[0].steps, s)], guide = svg.querySelector(".guide");
  guide.setAttribute("x1", x(at)); guide.setAttribute("x2", x(at)); guide.style.display = "";
  tip.replaceChildren(element("b", {}, `iteration ${at.toLocaleString("en")}`), ...shown.map(n => describe(n, nearest(n.steps, at))));
  tip.style.display = "block";
  const right = event.clientX - box.left < box.width / 2;
  tip.style.left = (event.clientX - box.left + (right ? 14 : -14 - tip.offsetWidth)) + "px";
  tip.style.top = Math.max(0, event.clientY - box.top - 20) + "px";
}

function leave(panel) {
  panel.querySelector(".tip").style.display = "none";
  panel.querySelector(".guide").style.display = "none";
}

function render() {
  document.getElementById("panels").replaceChildren(...DATA.panels.map(title => {
    const nets = DATA.nets.filter(n => n.panel === title);
    const lines = nets.filter(n => !hidden.has(n)).flatMap(n => [...curve(n, "train_error", 1.5, "5 3"), ...curve(n, "val_error", 2.6, "")]);
    const guide = drawn("line", {class: "guide", y1: TOP, y2: H - BOTTOM, stroke: "#8b98a5", "stroke-dasharray": "3 3"});
    guide.style.display = "none";
    const panel = PANEL.cloneNode(true);
    fill(panel.firstChild, {viewBox: `0 0 ${W} ${H}`}, [...grid(title), ...lines, guide]);
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
render();
