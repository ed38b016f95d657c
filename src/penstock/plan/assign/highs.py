"""A thin way to HiGHS (Huangfu and Hall, 2018): mixed-integer programs as arrays.

One thread and a fixed seed, so that the same arrays give the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Status = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """``bound`` is HiGHS's proven dual bound, on the better side of ``objective``; ``row_duals``
    are there for continuous programs only."""

    status: Status
    values: Floats | None = None
    objective: float = float("nan")
    bound: float = float("-inf")
    row_duals: Floats | None = None


@dataclass(frozen=True, slots=True)
class Arrays:
    """Bounds of columns and rows, and the matrix by rows or, with ``by_column``, by columns:
    entries ``index`` and ``value`` from ``starts[i]`` up to ``starts[i + 1]``."""

    lower: Floats
    upper: Floats
    integer: NDArray[np.bool_]
    row_lower: Floats
    row_upper: Floats
    starts: NDArray[np.int32]
    index: NDArray[np.int32]
    value: Floats
    by_column: bool = False


@dataclass(slots=True)
class Program:
    """A program under construction, column by column and row by row."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    @property
    def num_columns(self) -> int:
        return len(self.lower)

    @property
    def num_rows(self) -> int:
        return len(self.row_lower)

    def column(self, lower: float, upper: float, *, integer: bool) -> int:
        """Adds a column; answers its index."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.integer.append(integer)
        return self.num_columns - 1

    def row(self, lower: float, terms: Sequence[tuple[int, float]], upper: float) -> int:
        """Adds lower <= terms <= upper, each term a different column and its coefficient."""
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        self.index.extend(column for column, _ in terms)
        self.value.extend(coefficient for _, coefficient in terms)
        self.starts.append(len(self.index))
        return self.num_rows - 1


    def arrays(self) -> Arrays:
        """The program as it is now."""
        return Arrays(np.array(self.lower), np.array(self.upper),
                      np.array(self.integer, dtype=bool), np.array(self.row_lower),
                      np.array(self.row_upper), np.array(self.starts, dtype=np.int32),
                      np.array(self.index, dtype=np.int32), np.array(self.value))


# What HiGHS does for better answers by smaller programs and fresh starts.
_SEARCH = ("mip_heuristic_run_rins", "mip_heuristic_run_rens",
           "mip_heuristic_run_root_reduced_cost", "mip_allow_restart")


def solve_program(program: Arrays, cost: Floats, *, relaxed: bool = False, gap: float = 0.0,
                  absolute_gap: float = 1e-9, time_limit_s: float = float("inf"),
                  node_limit: int | None = None, start: Floats | None = None,
                  proof: bool = False) -> Answer:
    """Minimise ``cost`` (columns,); ``relaxed`` drops integrality. ``start`` is a full vector of
    columns. With ``gap`` 0 an answer is optimal when proven so up to rounding. ``proof`` is for a
    start that is nearly best: the time goes into the bound, not into other answers."""
    if not len(cost):
        empty = np.zeros(0)
        holds = np.all(program.row_lower <= 0.0) and np.all(program.row_upper >= 0.0)
        return (Answer("optimal", empty, 0.0, 0.0, np.zeros(len(program.row_lower)))
                if holds else Answer("infeasible"))
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    integer = not relaxed and bool(program.integer.any())
    options: dict[str, Any] = {
        "output_flag": False, "threads": 1, "random_seed": 0, "mip_rel_gap": gap,
        "mip_abs_gap": absolute_gap, "time_limit": max(time_limit_s, 0.0),
        "primal_feasibility_tolerance": 1e-9, "mip_feasibility_tolerance": 1e-7}
    if proof:
        options |= dict.fromkeys(_SEARCH, False)
    for name, value in options.items():
        solver.setOptionValue(name, value)
    if node_limit is not None:
        solver.setOptionValue("mip_max_nodes", node_limit)
    solver.passModel(model_of(program, cost, integer))
    if start is not None and integer:
        given = highspy.HighsSolution()
        given.col_value = start.tolist()
        solver.setSolution(given)
    solver.run()
    return _answer(solver, integer)


def model_of(program: Arrays, cost: Floats, integer: bool) -> Any:
    """The program as HiGHS takes it."""
    import highspy

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(cost), len(program.row_lower)
    lp.col_cost_ = cost
    lp.col_lower_, lp.col_upper_ = program.lower, program.upper
    lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
    formats = highspy.MatrixFormat
    lp.a_matrix_.format_ = formats.kColwise if program.by_column else formats.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = lp.num_col_, lp.num_row_
    lp.a_matrix_.start_ = program.starts
    lp.a_matrix_.index_ = program.index
    lp.a_matrix_.value_ = program.value
    if integer:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[flag] for flag in program.integer.tolist()]
    return lp


def _answer(solver: Any, integer: bool) -> Answer:
    import highspy

    status = solver.getModelStatus()
    known = highspy.HighsModelStatus
    if status in (known.kInfeasible, known.kUnboundedOrInfeasible):
        return Answer("infeasible")
    info = solver.getInfo()
    found = info.primal_solution_status == 2  # a feasible point is stored
    bound = info.mip_dual_bound if integer else info.objective_function_value
    solution = solver.getSolution()
    if not found:
        known_duals = not integer and solution.dual_valid
        return Answer("unknown", bound=bound if integer else float("-inf"),
                      row_duals=np.array(solution.row_dual) if known_duals else None)
    best = status in (known.kOptimal, known.kModelEmpty)
    return Answer("optimal" if best else "feasible", np.array(solution.col_value),
                  info.objective_function_value, bound,
                  None if integer else np.array(solution.row_dual))
