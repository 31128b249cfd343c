"""Reports of experiments: one HTML page with curves, errors by speaker and length, confusions, costs and alignments.

- `experiments.py`: reads a recipe's output folder, or the file of a score
- `statistics.py`: intervals, confusions, errors by length, differences of experiments
- `charts.py`: charts as SVG
- `utterances.py`, `recordings.py`: alignments as data for the page's script, and audio
- `sections.py`: what each section of the page shows; `formats.py` writes numbers
- `page.py`: the page, from `page/report.html`, `page/report.css` and `page/report.js`
"""

from biglittle_asr.report.experiments import Experiment, read_experiments, scored_experiment, with_manifest
from biglittle_asr.report.page import build_page

__all__ = ["Experiment", "build_page", "read_experiments", "scored_experiment", "with_manifest"]
