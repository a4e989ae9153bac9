"""The accounting rules: each file of this folder is one, named as the file is, with a class `Rule`.

`rule.py` says what a rule is and is none itself.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fl_research import registry
from fl_research.argument_checks import require_choice
from fl_research.errors import InputError
from fl_research.privacy import accounting_rules
from fl_research.privacy.accounting_rules.rule import AccountingRule


def names() -> tuple[str, ...]:
    """Returns the name of every rule, sorted."""
    return tuple(name for name in registry.names(accounting_rules) if name != "rule")


def rule_from_dict(values: Mapping[str, Any]) -> AccountingRule:
    """Returns the rule that `AccountingRule.to_dict` described, for a run's ledger.

    Raises:
      InputError: If the name is unknown or a setting is missing, unknown or does not fit.
    """
    settings = dict(values)
    name = settings.pop("name", None)
    require_choice("accounting rule", name, names())
    kind = registry.load(accounting_rules, "accounting rule", str(name)).Rule
    expected = {field.name for field in dataclasses.fields(kind)}
    if set(settings) != expected:
        raise InputError(
            f"accounting rule {name!r} has the settings {sorted(settings)} where it takes "
            f"{sorted(expected)}; restore the record that holds it"
        )
    rule: AccountingRule = kind(**settings)
    return rule
