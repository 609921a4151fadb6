// What the page draws on its canvases. Images are bytes, RGB, row by row.

const RAMP = [[24, 8, 48], [92, 18, 110], [170, 42, 92], [228, 90, 44], [252, 168, 24], [252, 244, 160]];
const TOP = 6; // the upper end of the map's colours, in thresholds of the decision, as in mdps_ref.report.overlay
const FULL = 2 * Math.PI;

const sideOf = (count, channels) => Math.sqrt(count / channels);

function bitmap(side, fill) {
  const canvas = new OffscreenCanvas(side, side), context = canvas.getContext("2d"), data = context.createImageData(side, side);
  for (let k = 0; k < side * side; k++) data.data.set(fill(k), 4 * k);
  context.putImageData(data, 0, 0);
  return canvas;
}

export function image(canvas, rgb, smooth = true) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap(sideOf(rgb.length, 3), (k) => [rgb[3 * k], rgb[3 * k + 1], rgb[3 * k + 2], 255]), 0, 0, canvas.width, canvas.height);
}

export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function mask(canvas, suspected) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const tone = (k) => (suspected[k] ? [240, 140, 60, 255] : [38, 44, 50, 255]);
  context.drawImage(bitmap(sideOf(suspected.length, 1), tone), 0, 0, canvas.width, canvas.height);
}

export function outline(canvas, suspected) {
  const context = canvas.getContext("2d"), side = sideOf(suspected.length, 1), pixel = canvas.width / side;
  const at = (row, column) => (row < 0 || column < 0 || row >= side || column >= side ? 0 : suspected[row * side + column]);
  context.beginPath();
  for (let row = 0; row <= side; row++) {
    for (let column = 0; column <= side; column++) {
      context.moveTo(column * pixel, row * pixel);
      if (at(row, column) !== at(row - 1, column)) context.lineTo((column + 1) * pixel, row * pixel);
      context.moveTo(column * pixel, row * pixel);
      if (at(row, column) !== at(row, column - 1)) context.lineTo(column * pixel, (row + 1) * pixel);
    }
  }
  for (const [width, colour] of [[5, "#1d2227"], [2.5, "#ffb37a"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}

function heat(level) {
  const at = level * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2), share = at - low;
  return RAMP[low].map((value, channel) => value + share * (RAMP[low + 1][channel] - value));
}

export function map(canvas, rgb, anomaly, threshold, place) {
  image(canvas, rgb);
  const levels = anomaly.map((value) => Math.sqrt(Math.min(Math.max(value / (TOP * threshold), 0), 1)));
  const over = bitmap(sideOf(anomaly.length, 1), (k) => [...heat(0.25 + 0.75 * levels[k]), 255 * 0.85 * levels[k]]);
  const context = canvas.getContext("2d");
  context.drawImage(over, 0, 0, canvas.width, canvas.height);
  if (place) ring(context, place.x * canvas.width, place.y * canvas.height, 0.09 * canvas.width);
}

function ring(context, x, y, radius) {
  for (const [width, colour] of [[7, "#000"], [3, "#fff"]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, FULL);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}

export function pen(canvas, corners, cursor) {
  clear(canvas);
  const context = canvas.getContext("2d"), side = canvas.width;
  context.lineCap = context.lineJoin = "round";
  for (const [width, colour] of [[13, "#fffa"], [8, "#333b"]]) {
    context.beginPath();
    corners.forEach(([x, y], k) => (k ? context.lineTo(x * side, y * side) : context.moveTo(x * side, y * side)));
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
  if (cursor) ring(context, cursor.x * side, cursor.y * side, cursor.down ? 9 : 15);
}

// The scores of the good washers, the threshold and the score, on one axis from 0.
export function scale(canvas, { goods, threshold, score, flagged }) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`);
  const zoom = devicePixelRatio, width = canvas.clientWidth, height = 132, axis = 84;
  canvas.width = width * zoom;
  canvas.height = height * zoom;
  const context = canvas.getContext("2d"), left = 12, right = width - 12, end = Math.max(1.15 * (score ?? 0), 2 * threshold);
  const at = (value) => left + (value / end) * (right - left);
  context.scale(zoom, zoom);
  context.font = "14px system-ui, sans-serif";
  line(context, left, axis, right, axis, colour("edge"), 1);
  context.fillStyle = colour("soft");
  goods.forEach((value, k) => dot(context, at(value), axis - 9 - 7 * (k % 3), 3.5));
  text(context, "0", left, axis + 20, width);
  line(context, at(threshold), axis - 50, at(threshold), axis + 8, colour("ink"), 2);
  context.fillStyle = colour("ink");
  text(context, `threshold ${threshold.toPrecision(2)}`, at(threshold), axis - 58, width);
  if (score === undefined) return;
  context.fillStyle = colour(flagged ? "bad" : "good");
  dot(context, at(score), axis, 8);
  context.font = "600 14px system-ui, sans-serif";
  text(context, `this picture ${score.toPrecision(2)}`, at(score), axis + 34, width);
}

function line(context, x, y, to, down, colour, width) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(to, down);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, FULL);
  context.fill();
}

// Text around x, moved so far that it stays inside.
function text(context, words, x, y, width) {
  const half = context.measureText(words).width / 2;
  context.textAlign = "center";
  context.fillText(words, Math.min(Math.max(x, half + 2), width - half - 2), y);
}
