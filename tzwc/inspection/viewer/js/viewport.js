// Pan and zoom, the same for all panes, so that both sides show the same place.

const ZOOM = { least: 0.02, most: 3 };
const CLICK = 4; // pixels that a pointer may move within a click
const NEAR = 0.42; // from this scale on, small text can be read
const TINY = 0.2; // below this one, no text can

class Viewport {
  constructor() {
    this.x = 0;
    this.y = 0;
    this.scale = 1;
    this._panes = [];
  }

  /** Panes are {svg, world}: an SVG element and the group in it that moves. */
  watch(panes) {
    this._panes = panes;
    for (const { svg } of panes) this._listen(svg);
    this.apply();
  }

  apply() {
    for (const { svg, world } of this._panes) {
      world.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${this.scale})`);
      svg.classList.toggle("far", this.scale < NEAR);
      svg.classList.toggle("tiny", this.scale < TINY);
    }
  }

  get size() {
    const box = this._panes[0]?.svg.getBoundingClientRect();
    return { width: box?.width || 1, height: box?.height || 1 };
  }

  zoom(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const scale = Math.min(ZOOM.most, Math.max(ZOOM.least, this.scale * factor));
    const change = scale / this.scale;
    this.x = at.x - (at.x - this.x) * change;
    this.y = at.y - (at.y - this.y) * change;
    this.scale = scale;
    this.apply();
  }

  /** Show a whole box, below the caption of the pane. */
  fit(box, { margin = 20, top = 40, most = 1.1 } = {}) {
    const { width, height } = this.size;
    const free = { width: width - 2 * margin, height: height - top - margin };
    this.scale = Math.max(Math.min(free.width / box.width, free.height / box.height, most), ZOOM.least);
    this.x = (width - box.width * this.scale) / 2 - box.x * this.scale;
    this.y = top + (free.height - box.height * this.scale) / 2 - box.y * this.scale;
    this.apply();
  }

  /** Move a box to the middle, at a scale at which it can be read. */
  centre(box) {
    const { width, height } = this.size;
    this.scale = Math.max(this.scale, 0.85);
    this.x = width / 2 - (box.x + box.width / 2) * this.scale;
    this.y = height / 2 - (box.y + box.height / 2) * this.scale;
    this.apply();
  }

  /** After things have moved, put the point that was at `before` back where it was on the screen. */
  hold(before, after) {
    this.x += (before.x - after.x) * this.scale;
    this.y += (before.y - after.y) * this.scale;
    this.apply();
  }

  _listen(svg) {
    let last = null;
    let travelled = 0;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      last = { x: event.clientX, y: event.clientY };
      travelled = 0;
    });
    svg.addEventListener("pointermove", (event) => {
      if (!last) return;
      const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
      travelled += Math.abs(dx) + Math.abs(dy);
      if (travelled <= CLICK) return;
      // Captured late: a captured pointer's click would go to the svg, not to the box under it.
      if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
      svg.classList.add("moving");
      this.x += dx;
      this.y += dy;
      last = { x: event.clientX, y: event.clientY };
      this.apply();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      svg.addEventListener(end, () => {
        last = null;
        svg.classList.remove("moving");
      });
    }
    svg.addEventListener(
      "click",
      (event) => {
        if (travelled > CLICK) event.stopImmediatePropagation();
      },
      { capture: true },
    );
    svg.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const box = svg.getBoundingClientRect();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
        if (event.shiftKey) {
          this.x -= (event.deltaX + event.deltaY) * lines;
          this.apply();
          return;
        }
        this.zoom(Math.exp(-event.deltaY * lines * 0.0016), {
          x: event.clientX - box.left,
          y: event.clientY - box.top,
        });
      },
      { passive: false },
    );
  }
}
