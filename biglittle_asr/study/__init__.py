"""Studies: many trainings from one file, one row of results each, and the tables and pictures made of them."""

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
