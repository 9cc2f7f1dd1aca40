"""What every rule promises. Inherit and override `family` and `evidence()`."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from paredown.core.catalog import build, describe, entry, rules
from paredown.core.errors import BadInput


class RuleContract:
    """Inherit for a family of rules: evidence for each edition that gives it a total."""

    family: str

    def evidence(self) -> dict[str, dict[str, Any]]:
        """Return {edition: numbers} for every edition."""
        raise NotImplementedError

    def named(self) -> dict[str, Any]:
        """Return {edition: rule} of the family."""
        entry(self.family)
        return {name.removeprefix(f"{self.family}."): r for name, r in rules().items() if r.part_name == self.family}

    def test_every_edition_has_evidence_here(self) -> None:
        assert set(self.named()) == set(self.evidence())

    def test_it_survives_json(self) -> None:
        for rule in self.named().values():
            assert build(json.loads(json.dumps(describe(rule)))) == rule
            assert entry(rule.part_name).kind == "rule"

    def test_each_constant_cites_its_clause_and_says_whether_it_was_read(self) -> None:
        for edition, rule in self.named().items():
            assert rule.about, edition
            for constant in rule.constants:
                assert len(constant.clause) > 8 and isinstance(constant.verified, bool), (edition, constant.name)
                numeric = isinstance(constant.value, int | float)
                assert numeric or not str(constant.value).replace("_", "").replace(".", "").isdigit(), constant.name

    def test_a_score_is_one_json_document_of_the_surface(self) -> None:
        for edition, numbers in self.evidence().items():
            rule = self.named()[edition]
            found = json.loads(json.dumps(rule.score(rule.evidence.of(numbers)).to_json()))
            assert {"schema", "rule", "edition", "terms", "total", "passes", "unverified"} <= set(found)
            assert found["schema"] == "paredown/score/1"
            assert (found["rule"], found["edition"]) == (self.family, edition)
            assert isinstance(found["total"], float | int) and found["terms"], edition
            assert found["unverified"] == [c.name for c in rule.constants if not c.verified]

    def test_it_repeats_and_leaves_the_evidence_alone(self) -> None:
        for edition, numbers in self.evidence().items():
            rule, before = self.named()[edition], json.dumps(numbers)
            evidence = rule.evidence.of(numbers)
            assert rule.score(evidence) == rule.score(evidence) and json.dumps(numbers) == before

    def test_what_is_missing_unknown_or_no_number_is_named_in_one_line(self) -> None:
        for edition, numbers in self.evidence().items():
            rule = self.named()[edition]
            for name in rule.evidence.required():
                self._refused(rule, {k: v for k, v in numbers.items() if k != name}, name)
                self._refused(rule, {**numbers, name: "many"}, name)
            self._refused(rule, {**numbers, "nonsense": 1}, "nonsense")
            self._refused(rule, [1, 2], "object")

    def _refused(self, rule: Any, numbers: Any, named: str) -> None:
        try:
            evidence = rule.evidence.of(numbers, "counts.json")
        except BadInput as error:
            assert named in str(error) and "counts.json" in str(error) and "\n" not in str(error)
        else:  # a text where the rule takes a text: then the rule itself says what is wrong with it
            assert isinstance(numbers, Mapping)
            with pytest.raises(BadInput):
                rule.score(evidence)
