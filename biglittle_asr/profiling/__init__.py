"""What a model costs: parameters, multiply-accumulates and latency; and where the time of a long run goes."""

from biglittle_asr.profiling.costs import Costs, count_costs, encoder_costs
from biglittle_asr.profiling.latency import Latency, measure_latency
from biglittle_asr.profiling.timing import Stopwatch

__all__ = ["Costs", "Latency", "Stopwatch", "count_costs", "encoder_costs", "measure_latency"]
