"""What `run.py --help` says of flags and variables."""

from __future__ import annotations

import pytest

from f110_fl.loading.arguments import explained
from f110_fl.loading.flags import SETTINGS, Setting
from run import build_parser


def helped(monkeypatch: pytest.MonkeyPatch, columns: int = 100) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return build_parser().format_help().splitlines()


def test_every_flag_and_every_variable_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(" ".join(helped(monkeypatch)).split())
    for setting in SETTINGS:
        assert explained(setting)
        assert explained(setting) in text
        for name in filter(None, (setting.flag, setting.variable, setting.key)):
            assert name in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "--repeat",
            "number of clients, or of replicas if the scenario is not federated: a whole number "
            "from 1 to 10000 (federated.clients; FED_TOTAL_CLIENTS)",
        ),
        ("--seed", "seed of all randomness: a whole number from 0 and below 2^63 (seed; RUN_SEED)"),
        (
            "FED_TIMEOUT",
            "longest wait for the replies of a round: a number above 0 and at most 1000000000 [s] "
            "(federated.timeout)",
        ),
        ("--wandb-prefix", "text for {prefix} in W&B names (wandb.prefix)"),
    ],
)
def test_what_it_does_what_is_allowed_its_unit_and_what_it_sets(name: str, words: str) -> None:
    (setting,) = (own for own in SETTINGS if name in (own.flag, own.variable))
    assert explained(setting) == words


def test_without_words_of_its_own_a_flag_has_those_of_its_key() -> None:
    setting = Setting("federated.patience", "FED_PATIENCE", "--patience")
    assert explained(setting).endswith("(federated.patience; FED_PATIENCE)")
    assert explained(Setting("threads", "", "--threads")) == (
        "PyTorch threads per client: a whole number from 1 to 256 (threads)"
    )


@pytest.mark.parametrize("columns", [60, 100])
def test_lines_fit_and_lists_stay_lists(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    lines = helped(monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert any(line.startswith("  FED_ROOT ") for line in lines)
    assert " ".join(lines[-2:]).endswith("over the scenario.")
    assert lines.index("only with --mode eval:") < lines.index(
        "settings, over those of the scenario (key; variable):"
    )
