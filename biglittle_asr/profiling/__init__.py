"""Costs of a model (parameters, multiply-accumulates, latency), pictures of networks, and timing of long runs."""

from biglittle_asr.profiling.conventions import CONVENTIONS, count_operations, count_parameters, micronet_scores
from biglittle_asr.profiling.costs import Costs, LayerCosts, count_costs, encoder_costs, head_costs
from biglittle_asr.profiling.drawing import draw_network, save_drawing
from biglittle_asr.profiling.latency import Latency, measure_latency
from biglittle_asr.profiling.sweep import Variant, sweep, sweep_table
from biglittle_asr.profiling.tables import Point, layer_table, plot_costs
from biglittle_asr.profiling.timing import Stopwatch

__all__ = [
    "CONVENTIONS",
    "Costs",
    "Latency",
    "LayerCosts",
    "Point",
    "Stopwatch",
    "Variant",
    "count_costs",
    "count_operations",
    "count_parameters",
    "draw_network",
    "encoder_costs",
    "head_costs",
    "layer_table",
    "measure_latency",
    "micronet_scores",
    "plot_costs",
    "save_drawing",
    "sweep",
    "sweep_table",
]
