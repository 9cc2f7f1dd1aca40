"""You learn: to add a compression method of your own, in one file, and to use it like the built-in ones.

A step is a frozen dataclass: its fields are the hyper-parameters, its card says where it comes from and what must fall.
In a package named in PAREDOWN_PARTS the terminal finds it too.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import paredown
from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked


@part("mine.threshold", Card(title="Zero small weights", source="guides/04", changes={"nonzero"}, gives={"masked"}))
@dataclass(frozen=True)
class Threshold:
    """Hold every weight at zero that is smaller than `times` the layer's standard deviation."""

    times: float = knob(0.5, low=0.0, high=3.0)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with masked weights; the network that was given stays as it was."""
        made = net.copy()
        for name, _ in made.weighted():
            slot = made.slot(name)
            if isinstance(slot, Free):
                weight = slot().detach()
                made.set_slot(name, Masked(weight, weight.abs() >= self.times * weight.std()))
            else:
                work.skip(name, f"a {type(slot).__name__} is left alone")  # never skip quietly
        return made


def main() -> None:
    train, mend = ({"part": "train.finetune", "plan": {"epochs": epochs, "lr": 0.01}} for epochs in (15, 8))
    recipe = paredown.Recipe.of_json([train, {"part": "mine.threshold", "times": 0.8}, mend])
    try:
        Threshold(9.0)  # fields are checked when a step is made
    except BadInput as error:
        print(f"refused: {error}")
    runs = Path(tempfile.mkdtemp())
    whole = paredown.apply(paredown.Recipe.of_json([train, mend]), "dense", "digits", out=runs / "whole").json["best"]
    mine = paredown.apply(recipe, "dense", "digits", out=runs / "mine").json["best"]
    nonzero, params, test = mine["cost"]["nonzero"], mine["cost"]["params"], mine["test"]["value"]
    assert nonzero < 0.7 * params and test > 0.9  # what the card promises falls, and the network still works
    sizes = f"{whole['file_bytes']} -> {mine['file_bytes']} bytes"
    print(f"claim: {nonzero} of {params} parameters are not zero, {sizes}, test {test:.4f}")


if __name__ == "__main__":
    main()
