// The board on which scratches are drawn, by pointer or by keyboard. A stroke is a list of corners [x, y], shares of the board's side.

import * as drawing from "./drawing.js";

const NEAR = 0.015, STEP = 0.02, LARGE = 0.08;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const inside = (value) => Math.min(Math.max(value, 0), 1);

// Calls drawn(stroke) at the end of each stroke, and says(words) where a reader without eyes on the board needs words.
export function makeBoard(board, canvas, drawn, says) {
  const pen = { x: 0.5, y: 0.26, down: false };
  let corners = [], enabled = false;

  const show = () => drawing.pen(canvas, corners, board.matches(":focus-visible") && enabled ? pen : null);
  const end = () => {
    const stroke = corners;
    corners = [];
    pen.down = false;
    show();
    if (stroke.length) drawn(stroke);
  };
  const placed = (event) => {
    const box = board.getBoundingClientRect();
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  };

  board.addEventListener("pointerdown", (event) => {
    if (!enabled || event.button) return;
    if (pen.down) end();
    board.setPointerCapture(event.pointerId);
    corners = [placed(event)];
    show();
  });
  board.addEventListener("pointermove", (event) => {
    if (!corners.length || pen.down) return;
    const [x, y] = placed(event), [a, b] = corners.at(-1);
    if (Math.hypot(x - a, y - b) > NEAR) corners.push([x, y]);
    show();
  });
  for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => corners.length && !pen.down && end());

  board.addEventListener("keydown", (event) => {
    if (!enabled) return;
    if (event.key in MOVES) move(...MOVES[event.key], event.shiftKey ? LARGE : STEP);
    else if (event.key === " ") toggle();
    else if (event.key === "Escape" && pen.down) forget();
    else return;
    event.preventDefault();
  });

  function move(right, down, step) {
    pen.x = inside(pen.x + step * right);
    pen.y = inside(pen.y + step * down);
    if (pen.down) corners.push([pen.x, pen.y]);
    show();
    says(`${pen.down ? "Scratching" : "Pen"} at ${Math.round(100 * pen.x)} % across, ${Math.round(100 * pen.y)} % down`);
  }

  function toggle() {
    if (pen.down) return end();
    pen.down = true;
    corners = [[pen.x, pen.y]];
    show();
    says("Pen down");
  }

  function forget() {
    corners = [];
    pen.down = false;
    show();
    says("Stroke dropped");
  }

  board.addEventListener("focus", show);
  board.addEventListener("blur", () => (pen.down ? end() : show()));
  return {
    enable() {
      enabled = true;
      show();
    },
  };
}
