"""Costs by name are those of the counter and of the models."""

import pytest

from contracts.nets import small_conv
from paredown.core.errors import BadInput
from paredown.cost.count import count, layers
from paredown.cost.devices import device
from paredown.cost.modelled import estimates
from paredown.cost.priced import priced


def test_priced_by_name() -> None:
    net = small_conv()
    whole = count(net)
    assert (priced("macs")(net), priced("params")(net), priced("bits")(net)) == (whole.macs, whole.params, whole.bits)
    assert priced("bops")(net) == whole.bops and len({whole.macs, whole.params, whole.bops}) == 3
    for name in ("nucleo_l4r5zi-tflm", "nvidia_t4"):
        said = {e.what: e.value for e in estimates(layers(net), device(name))}
        assert priced(name)(net) == said["latency_ms"] != said["energy_uj"]
    with pytest.raises(BadInput, match="toaster"):
        priced("toaster")
