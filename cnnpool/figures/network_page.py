"""The frame of a report on networks: HTML, and CSS in addition to that of the project's report."""

from collections.abc import Sequence
from html import escape
from string import Template

from cnnpool.figures import report_page

STYLE = (
    report_page.STYLE
    + """
body { max-width: 72rem; }
.figures { display: flex; flex-wrap: wrap; gap: 0 2rem; }
.figures div { flex: 1 1 100%; }
.figures figure { flex: 1 1 18rem; min-width: 0; max-width: 30rem; }
.figures figure img { width: 100%; }
img.wide { max-width: none; }
table { font-variant-numeric: tabular-nums; }
td, th { min-width: 0; padding-right: 1.2rem; }
.layers td, .layers th { white-space: nowrap; }
.warnings { border-left: .25rem solid #b36b00; background: #fdf3df; padding: .5rem .8rem;
            margin: 1rem 0; list-style-position: inside; }
.provenance td:first-child { white-space: nowrap; }
.provenance td { overflow-wrap: anywhere; }
.note { font-size: .9rem; }
summary { cursor: pointer; }
"""
)

PAGE = Template(
    report_page.HEAD
    + """\
<p>D is the sensitivity of a layer to small diffeomorphisms of the image, G that to noise of the
same norm, and R = D / G. Where R falls, the layer becomes stable to deformations faster than to
noise: it pools. D and G divide by the mean over all ordered pairs of P images, each with itself
included, and so are P / (P - 1) times those of different images; R is not affected.</p>
<div class="scroll"><table class="layers">
<thead><tr><th scope="col">network</th><th scope="col">data</th><th scope="col">networks</th>
<th scope="col">images</th><th scope="col">test error</th><th scope="col">R of the output</th>
<th scope="col">spatial share of the fall of R</th><th scope="col">warnings</th></tr></thead>
<tbody>
$overview
</tbody>
</table></div>
<div class="figures">
$curves
</div>
$sections
</body>
</html>
"""
)

OVERVIEW_ROW = Template(
    '<tr><td><a href="#$anchor">$label</a></td><td>$data</td><td>$networks</td><td>$images</td>'
    "<td>$error</td><td>$R</td><td>$share</td><td>$warnings</td></tr>"
)

SECTION = Template("""<section id="$anchor">
<h2>$label</h2>
<p>$place</p>
$warnings
$pooling
<h3>Layers</h3>
<div class="scroll"><table class="layers">
<thead><tr><th scope="col">k</th><th scope="col">last unit</th><th scope="col">what it does</th>
<th scope="col">D</th><th scope="col">G</th><th scope="col">R</th>
<th scope="col">fall of log R</th><th scope="col">spatial</th><th scope="col">channels</th>
<th scope="col">networks</th></tr></thead>
<tbody>
$rows
</tbody>
</table></div>
<p class="note">"no change": R falls by less than $least decades, or than two standard errors.
"spatial" and "channels" are the two parts of the fall, in decades; a negative part raises R.</p>
$spectra
<h3>Where it comes from</h3>
<table class="provenance"><tbody>
$provenance
</tbody></table>
</section>""")

LAYER_ROW = Template(
    "<tr><td>$k</td><td>$name</td><td>$verdict</td><td>$D</td><td>$G</td><td>$R</td>"
    "<td>$fall</td><td>$spatial</td><td>$channel</td><td>$networks</td></tr>"
)

PROVENANCE_ROW = Template("<tr><td>$what</td><td>$value</td></tr>")


def figure(image: str, caption: str) -> str:
    """A picture with its caption."""
    return report_page.FIGURE.substitute(image=image, caption=escape(caption))


def warnings(lines: Sequence[str]) -> str:
    """A list of warnings; nothing where there are none."""
    points = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="warnings">{points}</ul>' if points else ""
