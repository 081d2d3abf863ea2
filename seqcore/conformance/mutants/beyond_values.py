"""Mutants of clauses that values show, which no comparison of values can catch, and why.

Every other mutant of such a clause has to be caught by a value, and one of these that a value case
of its own clause catches has no place here.
"""

from collections.abc import Mapping

_KINK = "random numbers never lie on a kink"
_ROUNDING = "it is off by less than the tolerance, which is rounding noise of the same type"
_ERROR = "what is wrong is that nothing is refused"

BEYOND_VALUES: Mapping[str, str] = {
    "relu that makes a zero of NaN": "value cases give no NaN but where it is masked",
    "relu with the derivative 1 at 0": _KINK,
    "relu with the derivative 1/2 at 0": _KINK,
    "hard_sigmoid with the derivative 1/6 at -3 and 3": _KINK,
    "sigmoid as 1 / (1 + e^-a), which overflows with a warning": "the values are right",
    "sigmoid that reaches beyond 1": _ROUNDING,
    "any member may return one step": _ERROR,
    "input cast to the weights' data type without a word": _ERROR,
    "half states not rounded at each step": _ROUNDING,
    "half states cut off, not rounded": _ROUNDING,
    "float16 products summed in float16": _ROUNDING,
    "bfloat16 products summed in bfloat16": _ROUNDING,
    "bfloat16 products summed in float16": _ROUNDING,
    "half products of the pullback summed in the half type": _ROUNDING,
    "ties rounded away from zero": "random numbers are never ties",
    "tf32 through float16, whose exponents are fewer": "random numbers have usual exponents",
    "mask and lengths taken together": _ERROR,
    "a bare state is refused": "value cases give a state as a tuple",
}
