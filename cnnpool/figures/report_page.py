"""The frame of the report: HTML and CSS, readable on a phone and in print."""

from string import Template

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1a1a1a;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
section { border-top: 1px solid #bbb; margin-top: 2rem; padding-top: 1.25rem; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .9rem; margin-top: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid #ccc; padding: .35rem .9rem .35rem 0; text-align: left;
         vertical-align: top; }
td { min-width: 7rem; }
pre { background: #f4f4f4; padding: .6rem; font-size: .85rem;
      white-space: pre-wrap; overflow-wrap: anywhere; }
.verdict { display: inline-block; padding: 0 .5rem; border: 1px solid; border-radius: .3rem;
           font-size: .85rem; font-weight: 600; white-space: nowrap; }
.reproduced { color: #00573d; background: #e8f5ef; }
.partly { color: #6b4500; background: #fdf3df; }
.not { color: #8c2f00; background: #fcebe3; }
.beyond { color: #1d3f72; background: #e8eef8; }
.open { color: #444; background: #eee; }
a { color: #00508a; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
  .scroll { overflow: visible; }
}
"""

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
"""
PAGE = Template(
    HEAD
    + """\
<div class="scroll"><table>
<thead><tr><th scope="col">item</th><th scope="col">verdict</th></tr></thead>
<tbody>
$overview
</tbody>
</table></div>
$note
$sections
</body>
</html>
"""
)

OVERVIEW_ROW = Template(
    '<tr><td><a href="#$anchor">$title</a></td>'
    '<td><span class="verdict $verdict">$words</span></td></tr>'
)

SECTION = Template("""<section id="$anchor">
<h2>$title</h2>
<p><span class="verdict $verdict">$words</span></p>
$claim
$figure
$table
$disagrees
<h3>Command</h3>
<pre>$command</pre>
$sources
</section>""")

FIGURE = Template("<figure>$image<figcaption>$caption</figcaption></figure>")
IMAGE = Template('<img src="data:$media;base64,$content" alt="$title">')

TABLE = Template("""<div class="scroll"><table>
<thead><tr><th scope="col">what</th><th scope="col">paper</th><th scope="col">ours</th></tr></thead>
<tbody>
$rows
</tbody>
</table></div>""")
ROW = Template("<tr><td>$what</td><td>$paper</td><td>$ours</td></tr>")
