"""Faults of the layout of a page that a reader would see: measured in the browser."""

from tests.support.browser import Page

FAULTS = """
(() => {
  const faults = [], root = document.documentElement, width = root.clientWidth;
  const name = (one) => `${one.tagName.toLowerCase()}.${one.className} '${one.textContent.trim().slice(0, 30)}'`;
  const seen = (one) => one.getClientRects().length > 0 && getComputedStyle(one).visibility !== "hidden";
  const clipped = (one) => getComputedStyle(one).clipPath !== "none";
  if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} px wide in a window of ${width} px`);
  for (const one of document.querySelectorAll("main *:not(svg *), header *, footer *")) {
    if (one.closest(".scroll") && !one.matches(".scroll")) continue;
    const box = one.getBoundingClientRect();
    if (seen(one) && (box.right > width + 0.5 || box.left < -0.5)) faults.push(`outside the window: ${name(one)}`);
  }
  for (const scroll of document.querySelectorAll(".scroll")) {
    for (const row of scroll.querySelectorAll("tr")) {
      const cells = [...row.children].filter((cell) => seen(cell) && !clipped(cell.closest("thead") ?? cell));
      for (const [place, cell] of cells.entries()) {
        if (cell.scrollWidth > cell.clientWidth + 1) faults.push(`text wider than its cell: ${name(cell)}`);
        const next = cells[place + 1]?.getBoundingClientRect(), box = cell.getBoundingClientRect();
        const isBeside = next && Math.abs(next.top - box.top) < 1;
        if (isBeside && box.right > next.left + 0.5) faults.push(`on the next cell: ${name(cell)}`);
      }
    }
    // What the reader can bring into sight: every column, by scrolling the box as a reader does, and back.
    const canScroll = ["auto", "scroll"].includes(getComputedStyle(scroll).overflowX);
    for (const row of [...scroll.querySelectorAll("tr")].slice(0, 8)) {
      for (const cell of row.children) {
        if (!seen(cell) || clipped(cell.closest("thead") ?? cell)) continue;
        let box = cell.getBoundingClientRect(), frame = scroll.getBoundingClientRect();
        const beyond = box.right > frame.right ? box.right - frame.right : Math.min(box.left - frame.left, 0);
        if (canScroll) scroll.scrollLeft += beyond;
        box = cell.getBoundingClientRect(); frame = scroll.getBoundingClientRect();
        const right = canScroll ? Math.min(frame.right, width) : width;
        if (box.right > right + 1 || box.left < Math.max(frame.left, 0) - 1) faults.push(`out of reach: ${name(cell)}`);
      }
    }
    scroll.scrollLeft = 0;
  }
  for (const svg of document.querySelectorAll("figure svg")) {
    if (!seen(svg)) continue;
    const frame = svg.getBoundingClientRect(), title = svg.getAttribute("aria-label");
    const texts = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
    for (const [text, box] of texts) {
      const across = Math.min(box.left - frame.left, frame.right - box.right);
      const down = Math.min(box.top - frame.top, frame.bottom - box.bottom);
      if (Math.min(across, down) < -3) faults.push(`cut at the edge of ${title}: '${text.textContent}'`);
    }
    for (const [place, [one, a]] of texts.entries()) {
      for (const [other, b] of texts.slice(place + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        const both = `'${one.textContent}' and '${other.textContent}'`;
        if (across > 2 && down > 5) faults.push(`overlap in ${title}: ${both}`);
      }
    }
  }
  return [...new Set(faults)];
})()
"""


def faults(page: Page) -> list[str]:
    """Return what is cut, out of reach or overlapping; empty for a page that can be read in full."""
    return list(page.evaluate(FAULTS))
