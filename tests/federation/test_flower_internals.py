"""What this project uses of Flower beyond its public interfaces is still there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import strategy
from small import REPOSITORY

VERSION = "1.41"
INTERNALS = REPOSITORY / "f110_fl" / "engines" / "flower" / "internals.py"
PUBLIC = {
    *("flwr.app", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.simulation"),
    *("flwr.clientapp", "flwr.clientapp.mod", "flwr.clientapp.typing"),
}
# By module: names, and how functions are called.
PRIVATE: dict[str, dict[str, str | None]] = {
    "flwr.common.constant": {
        "NUM_PARTITIONS_KEY": None,
        "PARTITION_ID_KEY": None,
        "SUPERLINK_NODE_ID": None,
        "ErrorCode.CLIENT_APP_CRASHED": None,
        "ErrorCode.CLIENT_APP_RAISED_EXCEPTION": None,
        "ACCESS_TOKEN_KEY": None,
        "AuthnType.OIDC": None,
        "HEARTBEAT_DEFAULT_INTERVAL": None,
        "NOOP_FLWR_AID": None,
        "SYSTEM_TIME_TOLERANCE": None,
        "TIMESTAMP_HEADER": None,
        "TIMESTAMP_TOLERANCE": None,
    },
    "flwr.cli.constant": {
        "ACCESS_TOKEN_STORE_KEY": None,
        "AUTHN_TYPE_STORE_KEY": None,
        "REFRESH_TOKEN_STORE_KEY": None,
    },
    "flwr.common.logger": {"update_console_handler": None},
    "flwr.supercore.run": {"Run.create_empty": "run_id"},
    "flwr.supercore.task_identity": {
        "TaskIdentity._run_id": None,
        "TaskIdentity._node_id": None,
        "TaskIdentity._task_id": None,
    },
    "flwr.supercore.auth": {
        "compute_superexec_signature": "auth_secret, method, timestamp, nonce, body_sha256",
        "derive_auth_secret": "master_secret",
        "verify_superexec_signature": "expected_signature, received_signature",
    },
    "flwr.proto.runtime_pb2": {"AcquireTaskRequest": None},
    "flwr.supercore.interceptors": {
        "RuntimeVersionHttpInterceptor": "component_name",
        "SuperExecAuthHttpInterceptor": "master_secret, protected_methods",
    },
    "flwr.supercore.runtime": {
        "RuntimeHttpClient.from_server_address": "server_address, insecure, root_certificates, "
        "interceptors, retry_invoker",
        "RuntimeHttpClient.AcquireTask": "self, request",
    },
    "flwr.supernode.runtime.run_clientapp": {
        "run_clientapp": "runtime_api_address, token, insecure, certificates, parent_pid, "
        "runtime_dependency_install"
    },
    "flwr.supercore.auth.typing": {"AccountInfo": "flwr_aid, account_name"},
    "flwr.supercore": {
        "constant.SUPEREXEC_AUTH_TIMESTAMP_HEADER": None,
        "constant.SUPEREXEC_AUTH_NONCE_HEADER": None,
        "constant.SUPEREXEC_AUTH_BODY_SHA256_HEADER": None,
        "constant.SUPEREXEC_AUTH_SIGNATURE_HEADER": None,
    },
    "flwr.supercore.constant": {
        "FLEET_HTTP_PUBLIC_KEY_HEADER": None,
        "FLEET_HTTP_SIGNATURE_HEADER": None,
        "FLWR_PACKAGE_VERSION_METADATA_KEY": None,
        "TASK_TOKEN_HEADER": None,
        "TaskType.CLIENT_APP": None,
    },
    "flwr.supercore.credential_store.file_credential_store": {
        "FileCredentialStore.set": "self, key, value"
    },
    "flwr.supercore.date": {"now": ""},
    "flwr.supercore.http_logging": {"get_uvicorn_log_config": "log_level"},
    "flwr.supercore.logger": {"console_handler": None},
    "flwr.supercore.primitives.asymmetric": {"verify_signature": "public_key, message, signature"},
    "flwr.superlink.auth_plugin": {
        "NoOpControlAuthnPlugin.validate_tokens_in_metadata": "self, metadata",
        "NoOpControlAuthnPlugin.refresh_tokens": "self, metadata",
    },
    "flwr.superlink.cli.flower_superlink": {"SuperLinkLifespan": "config, state_factory"},
    "flwr.superlink.config_loader": {"SuperLinkLifespanConfig.__dataclass_fields__": None},
    "flwr.superlink.main": {"create_app": "config, superlink_lifespan_class"},
    "flwr.serverapp.strategy.strategy_utils": {
        "aggregate_arrayrecords": "records, weighting_metric_name"
    },
    "flwr.supercore.inflatable.inflatable_object": {"get_all_nested_objects": "obj"},
}


def moved() -> Iterator[str]:
    """Yield what is not where, or not called as, it was."""
    for module, names in PRIVATE.items():
        for name, parameters in names.items():
            try:
                found: Any = import_module(module)
                for part in name.split("."):
                    found = getattr(found, part)
            except (ImportError, AttributeError) as error:
                yield f"{module}.{name}: {error}"
                continue
            if parameters is not None:
                now = ", ".join(inspect.signature(found).parameters)
                if now != parameters:
                    yield f"{module}.{name}: takes ({now}), not ({parameters})"


def test_nothing_has_moved() -> None:
    """If this fails, see ``f110_fl/engines/flower/internals.py``."""
    installed = version("flwr")
    assert list(moved()) == [], f"written for Flower {VERSION}, installed is {installed}"
    assert installed.startswith(f"{VERSION}."), (
        f"Flower {installed} is installed; all private names that are used are where they were in "
        f"{VERSION}, so only the version here and in pyproject.toml is to be changed"
    )


@pytest.mark.usefixtures("flower_task")
def test_a_message_keeps_its_id_where_it_did() -> None:
    message = Message(RecordDict(), dst_node_id=2, message_type=MessageType.QUERY)
    assert message.metadata.__dict__["_message_id"] == message.metadata.message_id == ""


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("FedAvgM", ["current_arrays", "momentum_vector"]),
        ("FedAdam", ["current_arrays", "m_t", "v_t"]),
        ("FedYogi", ["current_arrays", "m_t", "v_t"]),
    ],
)
def test_strategies_keep_their_state_where_they_did(name: str, attributes: list[str]) -> None:
    """`server.aggregation` saves and restores it."""
    made = getattr(strategy, name)()
    assert [attribute for attribute in attributes if not hasattr(made, attribute)] == []


def flower_modules(path: Path) -> set[str]:
    """Return the modules of Flower that a file imports from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name for name in names if name.split(".")[0] == "flwr"}


def test_private_interfaces_are_imported_in_one_module() -> None:
    folders = ("clients", "f110_fl", "server", "sim", "tools", "tests")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    files += [REPOSITORY / "run.py"]
    private = {path: flower_modules(path) - PUBLIC for path in files}
    assert {path for path, names in private.items() if names} == {INTERNALS}
    assert private[INTERNALS] == PRIVATE.keys()
