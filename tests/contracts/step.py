"""What every step promises.

Inherit and override:

    from contracts.step import StepContract

    class TestUniform(StepContract):
        def part(self):            # the step under test, set so that it changes the nets below
            return Uniform(bits=4)

Optional: `nets()` (networks it is tried on, prepared with the forms that its card takes), `work(seed)` (services and a
seed), `settings()` (more instances that must survive JSON), `keeps_function` (True: outputs stay equal in eval mode).
"""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.catalog import build, describe, entry
from paredown.core.cost import Cost
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.net import Net


def params(net: Net) -> int:
    """Return the number of stored parameters."""
    return count(net).params


def nonzero(net: Net) -> int:
    """Return how many stored parameters are not zero."""
    return count(net).nonzero


def macs(net: Net) -> int:
    """Return the multiply-accumulates for one sample."""
    return count(net).macs


def same(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Return whether two outputs have the same structure, shapes and (within a relative tolerance) values."""
    a, b = torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b)
    return len(a) == len(b) and all(
        x.shape == y.shape and bool(((x - y).abs() <= tolerance * (1 + x.abs().max())).all())
        for x, y in zip(a, b, strict=True)
    )


class StepContract:
    """Inherit for a step; see the module's docstring."""

    keeps_function = False

    def part(self) -> Any:
        """Return the step under test."""
        raise NotImplementedError

    def nets(self) -> dict[str, Net]:
        """Return the networks that the step is tried on."""
        return {"conv": small_conv(), "mlp": small_mlp()}

    def work(self, seed: int = 0) -> Work:
        """Return the work for the step: random samples with labels for `calib`, nothing else."""
        draw = torch.Generator().manual_seed(0)
        net = next(iter(self.nets().values()))
        x = torch.rand((32, *net.spec.inputs[0][1]), generator=draw)
        return Work({"calib": (x, torch.randint(0, 10, (32,), generator=draw))}, seed)

    def settings(self) -> list[Any]:
        """Return more instances that must survive JSON."""
        return []

    def run(self, net: Net, seed: int = 0) -> tuple[Net, Work]:
        """Return what the step makes of `net`, and the work with its notes."""
        step, work = self.part(), self.work(seed)
        if "calib" in work.services:
            draw = torch.Generator().manual_seed(0)
            x = torch.rand((32, *net.spec.inputs[0][1]), generator=draw)
            work = dataclasses.replace(work, services={**work.services, "calib": (x, work.services["calib"][1])})
        scoped = work.scoped(step.part_name, step.card.needs)
        return step.apply(net, scoped).eval(), scoped

    def test_it_survives_json(self) -> None:
        for step in [self.part(), *self.settings()]:
            again = build(json.loads(json.dumps(describe(step))))
            assert again == step and hash(again) == hash(step)
            assert Recipe((step,)).id == Recipe((again,)).id

    def test_it_is_a_registered_step_with_a_source(self) -> None:
        found = entry(self.part().part_name)
        assert found.kind == "step" and found.card.title and (found.card.paper or found.card.source)
        assert found.cls.__doc__

    def test_it_leaves_its_input_alone(self) -> None:
        for net in self.nets().values():
            spec, before = net.spec, copy.deepcopy(net.state_dict())
            out, _ = self.run(net)
            assert out is not net and net.spec is spec
            assert before.keys() == net.state_dict().keys()
            assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
            with torch.no_grad():
                for tensor in [*out.parameters(), *out.buffers()]:
                    tensor.zero_()
            assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items()), "the result shares memory"

    def test_it_keeps_the_output_shape(self) -> None:
        for net in self.nets().values():
            out, _ = self.run(net)
            for x in (inputs_for(net, 1), inputs_for(net, 5)):
                a, b = (torch.utils._pytree.tree_leaves(n.eval()(*x)) for n in (net, out))
                assert [t.shape for t in a] == [t.shape for t in b]
                assert all(torch.isfinite(t).all() for t in b)

    def test_it_keeps_the_function_if_it_says_so(self) -> None:
        if not self.keeps_function:
            pytest.skip("this step changes the function")
        for net in self.nets().values():
            x = inputs_for(net)
            assert same(net.eval()(*x), self.run(net)[0](*x), 1e-5)

    def test_it_repeats_under_a_seed(self) -> None:
        for net in self.nets().values():
            torch.manual_seed(1)
            first, _ = self.run(net, seed=3)
            torch.manual_seed(2)
            second, _ = self.run(net, seed=3)
            assert first.spec == second.spec
            a, b = first.state_dict(), second.state_dict()
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

    def test_what_its_card_says_falls(self) -> None:
        counted = [field for field in self.part().card.changes if hasattr(Cost(), field)]
        for name, net in self.nets().items():
            out = self.run(net)[0]
            if out.spec == net.spec and same(net.state_dict(), out.state_dict()):
                continue
            before, after = count(net), count(out)
            for field in counted:
                assert getattr(after, field) < getattr(before, field), f"{field} does not fall on {name}"

    def test_its_result_has_the_forms_its_card_gives(self) -> None:
        card = self.part().card
        for net in self.nets().values():
            out, _ = self.run(net)
            assert out.forms() <= net.forms() | card.gives
            assert out.spec == type(out.spec).of_json(json.loads(json.dumps(out.spec.to_json())))

    def test_its_result_survives_copy_state_and_file(self, tmp_path: Path) -> None:
        for name, net in self.nets().items():
            out, _ = self.run(net)
            x = inputs_for(net)
            wanted = out(*x)
            assert same(wanted, copy.deepcopy(out)(*x)) and same(wanted, out.copy()(*x))
            again = out.copy()
            with torch.no_grad():
                for parameter in again.parameters():
                    parameter.zero_()
            again.load_state_dict(out.state_dict())
            assert same(wanted, again(*x))
            out.save(tmp_path / name)
            assert same(wanted, Net.load(tmp_path / name).eval()(*x))

    def test_it_notes_every_layer_it_left_alone(self) -> None:
        for name, net in self.nets().items():
            out, work = self.run(net)
            noted = {note.layer for note in work.notes if note.curve is None}
            assert all(note.text and note.step == self.part().part_name for note in work.notes)
            for weight, node in net.weighted():
                unchanged = weight in out.slot_names() and self.untouched(net, out, weight)
                said = {weight, weight.removesuffix(".weight"), node.name, f"{node.name}.weight"} & noted
                assert not unchanged or said or self.excused(net, weight), (
                    f"{weight} of {name} was left alone in silence"
                )

    def untouched(self, net: Net, out: Net, weight: str) -> bool:
        """Return whether a weight is as it was: its form, its shape and its values."""
        a, b = net.slot(weight), out.slot(weight)
        return type(a) is type(b) and a().shape == b().shape and torch.equal(a(), b())

    def excused(self, net: Net, weight: str) -> bool:
        """Return whether an unchanged weight needs no note (the step is not about it)."""
        return False
