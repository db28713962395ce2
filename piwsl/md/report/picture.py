"""A still picture of a molecule or crystal, for readers without JavaScript and for print."""

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from markupsafe import Markup

from piwsl.md.report.scene import Scene

SIZE = (820.0, 420.0)  # pixels
LARGEST_SCALE = 75.0  # pixels per angstrom


def picture_svg(scene: Scene) -> Markup:
    """The first frame as balls and sticks, seen along its shortest axis, as an ``<svg>`` element."""
    positions = scene.positions[0]
    radii = 0.42 * covalent_radii[scene.species]
    edges = scene.edges
    corners = edges.reshape(-1, 3)
    low = np.concatenate([positions - radii[:, None], corners]).min(axis=0)
    high = np.concatenate([positions + radii[:, None], corners]).max(axis=0)
    span = np.maximum(high - low, 1e-6)
    scale = min(LARGEST_SCALE, 0.92 * SIZE[0] / span[0], 0.92 * SIZE[1] / span[1])
    centre = (low + high) / 2
    places, ends = (np.array(SIZE) / 2 + scale * (one - centre)[..., :2] * [1, -1] for one in (positions, edges))
    depth = positions[:, 2]
    shapes = [
        (
            float(depth[[i, j]].min()) - 0.01,  # never over its own atoms
            f'<line x1="{places[i, 0]:.1f}" y1="{places[i, 1]:.1f}" x2="{places[j, 0]:.1f}" y2="{places[j, 1]:.1f}" '
            f'stroke="var(--outline)" stroke-width="{0.22 * scale:.1f}" stroke-linecap="round"/>',
        )
        for i, j in scene.bonds
    ]
    shapes += [
        (
            float(edge[:, 2].mean()),
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--muted)" stroke-width="1"/>',
        )
        for edge, ((x1, y1), (x2, y2)) in zip(edges, ends, strict=True)
    ]
    for place, number, radius, z in zip(places, scene.species, radii, depth, strict=True):
        colour = "#" + "".join(f"{round(255 * float(part)):02x}" for part in jmol_colors[number])
        shapes.append(
            (
                float(z),
                f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="{radius * scale:.1f}" fill="{colour}" '
                'stroke="var(--muted)" stroke-width="1"/>',
            )
        )
    content = "".join(shape for _, shape in sorted(shapes))
    return Markup(f'<svg role="img" aria-label="The first frame" viewBox="0 0 {SIZE[0]:g} {SIZE[1]:g}">{content}</svg>')
