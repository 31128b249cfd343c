"""Studies: trainings listed in one file, a table with one row of results for each, and reports made from it."""

from biglittle_asr.study.plan import Comparison, Run, Study, read_study
from biglittle_asr.study.queue import Queue
from biglittle_asr.study.report import draw_comparisons, summarize, write_report
from biglittle_asr.study.repository import check_out
from biglittle_asr.study.results import Results
from biglittle_asr.study.status import format_status
from biglittle_asr.study.utterances import collect_utterances
from biglittle_asr.study.verdict import decide, format_verdicts

__all__ = [
    "Comparison",
    "Queue",
    "Results",
    "Run",
    "Study",
    "check_out",
    "collect_utterances",
    "decide",
    "draw_comparisons",
    "format_status",
    "format_verdicts",
    "read_study",
    "summarize",
    "write_report",
]
