// Surfaces that can be turned, by dragging or by the arrow keys: one canvas per net, all with one height axis.
// Content of #surfaces: a list of {title, axes: [x, y, z], log, surfaces: [{title, xs, ys, heights}]}; heights are rows
// over x, one per y, null where there is none, and logarithms to base 10 where `log` says so.
(() => {
  const SIZE = 300, SCALE = 92, LOWER = 0.62;
  let turn = -0.9, tilt = 0.5;

  const rgb = share => {
    const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
    const place = Math.min(0.999, Math.max(0, share)) * (stops.length - 1), low = Math.floor(place);
    return `rgb(${stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (place - low)))})`;
  };
  const project = ([x, y, z]) => {
    const across = x * Math.cos(turn) - y * Math.sin(turn), away = x * Math.sin(turn) + y * Math.cos(turn);
    return [SIZE / 2 + SCALE * across, SIZE * LOWER - SCALE * (z * Math.cos(tilt) + away * Math.sin(tilt)),
            away * Math.cos(tilt) - z * Math.sin(tilt)];
  };
  const scaled = values => {
    const low = Math.min(...values), high = Math.max(...values);
    return value => high > low ? 2 * (value - low) / (high - low) - 1 : 0;
  };

  function quads({xs, ys, heights}, height) {
    const across = scaled(xs), along = scaled(ys), found = [];
    for (let j = 0; j + 1 < ys.length; j++) for (let i = 0; i + 1 < xs.length; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      if (corners.some(([a, b]) => heights[b][a] === null)) continue;
      const share = corners.reduce((sum, [a, b]) => sum + height(heights[b][a]), 0) / 4;
      found.push({share, corners: corners.map(([a, b]) => [across(xs[a]), along(ys[b]), 1.3 * height(heights[b][a]) - 0.5])});
    }
    return found;
  }

  function draw(canvas, faces) {
    const pen = canvas.getContext("2d");
    pen.setTransform(canvas.width / SIZE, 0, 0, canvas.height / SIZE, 0, 0);
    pen.clearRect(0, 0, SIZE, SIZE);
    pen.lineWidth = 0.4;
    faces.map(face => ({share: face.share, points: face.corners.map(project)}))
      .sort((a, b) => b.points.reduce((s, p) => s + p[2], 0) - a.points.reduce((s, p) => s + p[2], 0))
      .forEach(({share, points}) => {
        pen.beginPath();
        points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
        pen.closePath();
        pen.fillStyle = rgb(share);
        pen.strokeStyle = "#00000055";
        pen.fill();
        pen.stroke();
      });
  }

  function turnable(canvas, redraw) {
    const by = (across, down) => { turn += across; tilt = Math.min(1.5, Math.max(0, tilt + down)); redraw(); };
    canvas.onpointerdown = event => canvas.setPointerCapture(event.pointerId);
    canvas.onpointermove = event => event.buttons && by(event.movementX / 100, event.movementY / 100);
    canvas.onkeydown = event => {
      const step = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1]}[event.key];
      if (step) { by(...step); event.preventDefault(); }
    };
  }

  function show(figure) {
    const all = figure.surfaces.flatMap(one => one.heights.flat()).filter(one => one !== null);
    if (!all.length) return [];
    const low = Math.min(...all), high = Math.max(...all), value = h => +(figure.log ? 10 ** h : h).toPrecision(3);
    const height = h => high > low ? (h - low) / (high - low) : 0.5;
    const pictures = figure.surfaces.map(one => ({one, faces: quads(one, height), canvas: document.createElement("canvas")}));
    const redraw = () => pictures.forEach(({canvas, faces}) => draw(canvas, faces));
    const panels = pictures.map(({one, canvas}) => {
      canvas.width = canvas.height = 2 * SIZE;
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${figure.title}: ${figure.axes[2]} of ${one.title}; arrow keys turn it`);
      turnable(canvas, redraw);
      const panel = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = one.title;
      panel.append(caption, canvas);
      return panel;
    });
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = `${figure.title}: ${figure.axes[2]} from ${value(low)} to ${value(high)}` +
      `${figure.log ? ", on a logarithmic scale" : ""}. Drag, or use the arrow keys, to turn them all.`;
    const row = document.createElement("div");
    row.className = "surfaces";
    row.append(...panels);
    redraw();
    return [row, note];
  }

  const place = document.getElementById("surfaces");
  const figures = JSON.parse(place.textContent);
  place.after(...figures.flatMap(show));
})();
