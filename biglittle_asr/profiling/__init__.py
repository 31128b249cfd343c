"""What a model costs: parameters and multiply-accumulates, counted exactly, and measured latency."""

from biglittle_asr.profiling.costs import Costs, count_costs, encoder_costs
from biglittle_asr.profiling.latency import Latency, measure_latency

__all__ = ["Costs", "Latency", "count_costs", "encoder_costs", "measure_latency"]
