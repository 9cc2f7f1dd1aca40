"""Pictures sampled at computed places."""

from paredown.cost.arithmetic import Arithmetic, Call, counts


@counts("pooling", "grid_sampler")
def grid_sampler(call: Call) -> Arithmetic:
    """For each place its coordinates and its neighbours' weights, once; for each channel the neighbours weighed.

    A coordinate is brought to pixels by one multiplication and one addition. Choosing a pixel, rounding included, is free.
    """
    dims, mode = len(call.out) - 2, call.get("interpolation_mode")
    places, taps = call.outputs // call.out[1], (2, 1, 4)[mode]
    weights = _products(taps, dims) if mode != 1 else Arithmetic()
    once = (Arithmetic(mults=1, adds=1) + _edge(call) + _weights(mode)) * dims + weights
    each = Arithmetic(mults=taps**dims, adds=taps**dims - 1) if mode != 1 else Arithmetic()
    return once * places + each * call.outputs


def _edge(call: Call) -> Arithmetic:
    """What keeps one coordinate inside: two limits; before them a fold where it reflects. Of cubic taps it is free: they are pixels."""
    if call.get("padding_mode") == 0 or call.get("interpolation_mode") == 2:
        return Arithmetic()
    return Arithmetic(compares=2, specials=int(call.get("padding_mode") == 2))


def _weights(mode: int) -> Arithmetic:
    """The weights along one dimension: what lies beyond the pixel and its rest; four values of the cubic curve."""
    return (Arithmetic(adds=2), Arithmetic(), Arithmetic(mults=12, adds=14))[mode]


def _products(taps: int, dims: int) -> Arithmetic:
    """The products of the weights along each dimension."""
    return Arithmetic(mults=sum(taps**d for d in range(2, dims + 1)))
