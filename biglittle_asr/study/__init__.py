"""Studies: trainings listed in one file, a table with one row of results for each, and reports made from it."""

from biglittle_asr.study.plan import Run, Study, read_study
from biglittle_asr.study.queue import Queue
from biglittle_asr.study.report import summarize, write_report
from biglittle_asr.study.repository import check_out
from biglittle_asr.study.results import Results
from biglittle_asr.study.status import format_status

__all__ = [
    "Queue",
    "Results",
    "Run",
    "Study",
    "check_out",
    "format_status",
    "read_study",
    "summarize",
    "write_report",
]
