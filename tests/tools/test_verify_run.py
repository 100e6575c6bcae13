"""The proof of a run: whatever is changed is named, and what was computed is computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from in_process import InProcess, Keyed, credentials, federate
from verify_run import main

from f110_fl.federation.chain import CHAIN, SEAL, Head, link_of, seal_of
from f110_fl.federation.digests import file_digest, metrics_digest
from f110_fl.federation.manifest import write_manifest
from f110_fl.files import complete_lines, write_atomic
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_metadata, read_tensors, tensors_digest, write_tensors
from f110_fl.training.state_file import kept_state


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two clients with keys, two rounds of TD3; the server was lost in each and went on."""
    root = tmp_path_factory.mktemp("signed") / "run"
    made = credentials(root)
    federate(root, Keyed(made, cut=1))
    federate(root, Keyed(made, cut=2), resumed=True)
    return federate(root, Keyed(made), resumed=True)


@pytest.fixture
def copy(signed: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the run, to be changed."""
    return RunDir(Path(shutil.copytree(signed.root, tmp_path / "run")))


def verify(
    rundir: RunDir, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, dict[str, str]]:
    """Returns the exit status, and what is wrong, by where."""
    capsys.readouterr()
    status = main([str(rundir.root), *flags])
    lines = capsys.readouterr().out.splitlines()
    wrong = [line.removeprefix("WRONG       ") for line in lines if line.startswith("WRONG ")]
    return status, dict(line.split(": ", 1) for line in wrong)


def rewrite(rundir: RunDir, records: list[dict[str, Any]]) -> None:
    """Write records as if nothing had happened: links, seals, the server's state, the manifest."""
    head = Head()
    for record in records:
        record[CHAIN]["previous"] = head.link
        record[CHAIN]["link"] = link_of(record[CHAIN])
        record[SEAL] = seal_of(record, head.seal)
        head = Head.of(record)
    write_atomic(rundir.rounds, "".join(f"{json.dumps(record)}\n" for record in records))
    state = read_tensors(rundir.server)
    write_tensors(rundir.server, state, {"summary": json.dumps(records[-1])})
    write_manifest(rundir)


def test_nothing_is_wrong_with_a_run(signed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(signed.root), "--keys", str(signed.flower / "keys")]) == 0
    told = capsys.readouterr().out
    assert "Chain       2 rounds" in told
    assert "Signatures  4 of 4 replies" in told
    assert "the same as here" in told
    assert told.endswith("Wrong       nothing\n")


def test_what_was_cut_off_has_the_links_of_what_was_not(
    signed: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with keys or without: only signatures, and what tells the time, differ."""
    straight = federate(tmp_path / "straight", InProcess())
    ours, theirs = complete_lines(signed.rounds), complete_lines(straight.rounds)
    assert [record[CHAIN] for record in ours] == [record[CHAIN] for record in theirs]
    assert [record[SEAL] for record in ours] != [record[SEAL] for record in theirs]
    assert verify(straight, capsys) == (0, {})
    status, wrong = verify(straight, capsys, "--keys", str(signed.flower / "keys"))
    assert status == 1
    assert wrong["rounds.jsonl, round 2, client 1"] == "not signed"


def test_a_run_that_was_cut_off_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of the round that was begun are the run's, too; a kill leaves no manifest."""
    rundir = federate(tmp_path / "run", InProcess(cut=1))
    assert rundir.client_tensors(1, 0).exists()
    assert verify(rundir, capsys) == (0, {})
    rundir.client_tensors(1, 0).write_bytes(b"other")
    assert verify(rundir, capsys) == (1, {"round_00001/client_00.safetensors": "changed"})
    rundir.manifest.unlink()
    assert main([str(rundir.root)]) == 0
    assert "was killed" in capsys.readouterr().out


def test_a_flipped_bit_in_any_file_is_named(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    files = [path for path in copy.root.rglob("*") if path.is_file()]
    ours = [path for path in files if copy.flower not in path.parents]
    assert len(ours) > 25
    assert {path.suffix for path in ours} >= {".json", ".jsonl", ".safetensors", ".replay", ".pub"}
    for path in ours:
        name, before = path.relative_to(copy.root).as_posix(), path.read_bytes()
        changed = bytearray(before or b"\0")
        if before:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        status, wrong = verify(copy, capsys)
        assert status == 1, name
        assert any(where == name or where.startswith(f"{name}, ") for where in wrong), (name, wrong)
        path.write_bytes(before)
    assert verify(copy, capsys) == (0, {})


def test_a_file_that_is_gone_or_added_is_named(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.client_tensors(1, 0).unlink()
    copy.episodes(1).unlink()
    (copy.root / "notes.txt").write_text("mine")
    shutil.copy(copy.global_tensors(2), copy.client_tensors(2, 7))
    copy.round(3).mkdir()
    copy.metrics(3).write_text("{}")
    assert verify(copy, capsys) == (
        1,
        {
            "round_00001/client_00.safetensors": "gone",
            "clients/01/episodes.jsonl": "gone",
            "notes.txt": "added",
            "round_00002/client_07.safetensors": "added",
            "round_00003/metrics.json": "added",
        },
    )
    assert verify(copy, capsys, "--round", "1")[1].keys() >= {"round_00001/client_00.safetensors"}


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda line: line["metrics"].update({"train/episodes": 2.0}), "does not give its seal"),
        (lambda line: line[CHAIN].update(result="0" * 64), "do not give its link"),
        (lambda line: line["signatures"].clear(), "does not give its seal"),
        (lambda line: line.pop(CHAIN), "no chain"),
    ],
)
def test_a_changed_line_breaks_the_chain(
    copy: RunDir, capsys: pytest.CaptureFixture[str], change: Change, what: str
) -> None:
    records = complete_lines(copy.rounds)
    change(records[0])
    copy.rounds.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert what in verify(copy, capsys)[1]["rounds.jsonl, round 1"]


def test_a_line_that_was_sealed_again_breaks_the_next(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = complete_lines(copy.rounds)
    first[CHAIN]["inputs"] = "0" * 64
    first[CHAIN]["link"] = link_of(first[CHAIN])
    first[SEAL] = seal_of(first, Head().seal)
    copy.rounds.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert "rounds.jsonl, round 2" in verify(copy, capsys)[1]


def test_a_round_that_was_taken_out_is_missed(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = copy.rounds.read_text().splitlines()
    copy.rounds.write_text(f"{second}\n")
    assert "round 1 is missing" in verify(copy, capsys)[1]["rounds.jsonl, round 2"]
    copy.rounds.write_text(f"{first}\n")
    shutil.rmtree(copy.round(2))
    assert "not the last" in verify(copy, capsys)[1]["rounds.jsonl, round 2"]


def forge(rundir: RunDir) -> None:
    """Replace what client 1 sent in round 1, as if it had been so, as far as that can be done."""
    path = rundir.client_tensors(1, 1)
    tensors = read_tensors(path)
    name = "car_0/model/actor/weights.0"
    write_tensors(path, tensors | {name: tensors[name] + 1})
    records = complete_lines(rundir.rounds)
    records[0][CHAIN]["clients"]["01"]["tensors"] = file_digest(path)
    rewrite(rundir, records)


def test_whoever_forges_a_reply_and_all_hashes_lacks_the_signature(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    link = complete_lines(copy.rounds)[0][CHAIN]["link"]
    forge(copy)
    status, wrong = verify(copy, capsys)
    assert status == 1
    # Client 0 has signed the link to the forged round, too.
    assert set(wrong) == {
        f"rounds.jsonl, round {n}, client {k}" for n, k in ((1, 1), (2, 0), (2, 1))
    }
    assert wrong["rounds.jsonl, round 1, client 1"] == "its signature is not of this reply"
    assert verify(copy, capsys, "--link", link)[1]["rounds.jsonl"] == f"no link {link}"


def test_a_forged_reply_is_not_computed_again(
    copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where nothing is signed, what was computed comes out otherwise."""
    forge(copy)
    wrong = verify(copy, capsys, "--recompute", "--round", "1", "--client", "1")[1]
    what = "other tensors than recorded; the first: car_0/model/actor/weights.0"
    assert wrong["round 1, client 1, recomputed"] == what
    wrong = verify(copy, capsys, "--recompute", "--round", "1")[1]
    assert "other result and server than recorded" in wrong["round 1, average recomputed"]


def test_rounds_and_averages_are_computed_again(
    signed: RunDir, copy: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(signed.root), "--recompute", "--client", "1"]) == 0
    told = capsys.readouterr().out
    assert "client 1, round 2: tensors, metrics and state byte-equal, 1 rounds trained" in told
    assert "from the state after round 1" in told
    shutil.rmtree(kept_state(copy.client(1), 1))
    assert main([str(copy.root), "--recompute", "--client", "1"]) == 1  # what was kept is missed
    assert "2 rounds trained again from the beginning" in capsys.readouterr().out
    assert main([str(signed.root), "--recompute"]) == 0
    assert "averages of rounds 1 to 2 made again" in capsys.readouterr().out


class Tampering(Keyed):
    """Client 1's replies are changed on the way, or signed by another key."""

    what = ""

    def private_key(self, client_id: int) -> Path | None:
        own = super().private_key(client_id)
        if client_id == 0 or not self.what:
            return own
        return None if self.what == "unsigned" else super().private_key(0)

    def changed(self, client_id: int, reply: Message) -> Message:
        if client_id == 1 and self.what == "metrics" and "metrics" in reply.content:
            reply.content.metric_records["metrics"]["train/car_0/return"] = 1.0
        return reply


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("unsigned", "its reply is not signed (node config: key)"),
        ("stranger", "its reply is not signed by its key, or to another order"),
        ("metrics", "its reply is not signed by its key, or to another order"),
    ],
)
def test_a_reply_that_its_client_did_not_sign_is_dropped(
    tmp_path: Path, what: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    grid = Tampering(credentials(root))
    grid.what = what
    rundir = federate(root, grid, episodes=1, federated={"keep_states": 0})
    (record,) = complete_lines(rundir.rounds)
    assert record["dropped"] == {"1": reason}
    assert list(record["signatures"]) == ["00"]
    assert verify(rundir, capsys) == (0, {})


def test_the_hash_of_tensors_is_that_of_their_file(signed: RunDir, tmp_path: Path) -> None:
    path = signed.global_tensors(1)
    tensors, metadata = read_tensors(path), read_metadata(path)
    assert tensors_digest(tensors, metadata) == file_digest(path)
    write_tensors(tmp_path / "x.safetensors", tensors)
    assert tensors_digest(tensors) == file_digest(tmp_path / "x.safetensors")


def test_the_clock_is_not_hashed() -> None:
    def found(values: Mapping[str, float]) -> str:
        return metrics_digest({"train/episodes": 2.0, **values})

    assert found({"train/seconds": 1.0}) == found({"train/seconds": 2.0})
    assert found({"train/laps": 1.0}) != found({"train/laps": 2.0})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--round", "3"], "--round=3: allowed: a completed round, 1 to 2"),
        (["--client", "1"], "--client='1': only with --recompute"),
        (["--client", "7", "--recompute"], "--client=7: no reply of it was averaged in any round"),
        (["--client", "7", "--recompute", "--round", "1"], "--client=7: no reply"),
        (["--keys", "nowhere"], "holds no public key of a client"),
    ],
)
def test_wrong_input_is_one_line(
    signed: RunDir, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([str(signed.root), *flags]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_directory_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no run there (no config.json)" in capsys.readouterr().err
