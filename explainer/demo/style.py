"""The style sheet of the demo's page, on top of those of explanations and responses."""

DEMO_STYLE = """
body { max-width: 88em; margin: 1em auto; padding: 0 1.2em 3em; }
header h1 { font-size: 1.5em; margin: .4em 0 .1em; }
header p { margin: 0 0 1em; }
main { display: grid; grid-template-columns: minmax(17em, 25em) minmax(0, 1fr); gap: 2em; align-items: start; }
@media (max-width: 56em) { main { grid-template-columns: minmax(0, 1fr); gap: 1em; } }
h2 { font-size: 1.05em; margin: 1.4em 0 .4em; }
#answer { min-width: 0; scroll-margin-top: .5em; }
#answer > h2:first-of-type { margin-top: 0; }
#answer > .amortex { padding: 0; }
.field { display: block; margin: 0 0 .8em; }
.field > span { display: block; font-weight: 600; margin: 0 0 .2em; }
.field small { display: block; color: var(--soft); font-size: .87em; margin: .1em 0 0; }
textarea, select, input[type=text] { font: inherit; color: inherit; background: var(--paper); width: 100%;
  box-sizing: border-box; border: 1px solid var(--edge); border-radius: 6px; padding: .45em .55em; }
textarea { resize: vertical; display: block; }
:root { --edge: #767676; --error: #a3150f; }
@media (prefers-color-scheme: dark) { :root { --edge: #8c8c8c; --error: #ff9d94; } }
.check { display: flex; gap: .5em; align-items: baseline; margin: 0 0 .7em; }
.further { margin: 0 0 .8em; }
.further > summary { color: var(--soft); margin: 0 0 .5em; }
.row { border: 0; border-inline-start: 3px solid var(--rule); margin: 0 0 .6em; padding: 0 0 0 .7em; min-width: 0; }
.row .field { margin: 0 0 .35em; }
.row .field > span { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.row select { width: auto; padding: .15em .4em; font-size: .87em; }
.actions { display: flex; flex-wrap: wrap; gap: .7em; align-items: center; margin: 1em 0 0; }
button[type=submit] { font: inherit; font-weight: 600; border: 1px solid var(--ink); border-radius: 6px;
  padding: .45em 1.2em; background: var(--ink); color: var(--paper); cursor: pointer; }
button[type=submit].other { background: none; color: var(--ink); font-weight: inherit; }
button[type=submit]:disabled { opacity: .5; cursor: progress; }
:focus-visible { outline: 2px solid #0072b2; outline-offset: 2px; }
.error, .notice { border: 1px solid var(--edge); border-inline-start: 5px solid var(--edge); border-radius: 4px;
  padding: .6em .9em; margin: 0 0 1em; overflow-wrap: anywhere; white-space: pre-line; }
.error { border-color: var(--error); color: var(--error); }
.labels { list-style: none; margin: 0; padding: 0; max-width: 34em; }
.labels li { display: grid; grid-template-columns: minmax(4em, 11em) 4.2em 1fr; gap: .8em; align-items: center;
  padding: .12em 0; }
.labels .name { overflow-wrap: anywhere; }
.labels .number { text-align: end; font-variant-numeric: tabular-nums; }
.labels .track { border: 1px solid var(--rule); border-radius: 3px; height: .75em; overflow: hidden; }
.labels .bar { display: block; height: 100%; background: var(--edge); print-color-adjust: exact; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24em, 100%), 1fr)); gap: 1.5em; }
.beside > .amortex { margin: 0; min-width: 0; padding: 0; }
#answer th { white-space: normal; }
@media (max-width: 32em) { #answer table { font-size: .85em; } #answer th, #answer td { padding: .3em .35em; } }
td, th[scope=row] { font-variant-numeric: tabular-nums; font-weight: inherit; }
.empty { border: 1px dashed var(--rule); border-radius: 6px; padding: 2em 1em; text-align: center; margin: 0; }
@media (max-width: 56em) { .empty { display: none; } }
@media print { form, .actions { display: none; } main { display: block; } }
"""
