# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member says about itself, against a gRPC server that answers as etcd does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.errors import EtcdError
from ansible_collections.pachops.pachyderm.plugins.module_utils.etcd.client import EtcdClient, Status, _messages


@pytest.fixture
def member() -> Iterator[EtcdClient]:
    messages = _messages()
    header = messages["Header"](cluster_id=2, member_id=3, revision=41)
    answers: dict[str, Any] = {
        "/etcdserverpb.Maintenance/Status": messages["StatusResponse"](
            header=header, version="3.5.21", dbSize=20480, dbSizeInUse=8192, leader=3
        ),
        # Two members raise the same alarm.
        "/etcdserverpb.Maintenance/Alarm": messages["AlarmResponse"](
            alarms=[messages["AlarmMember"](memberID=number, alarm=alarm) for number, alarm in ((1, 1), (2, 1), (1, 2))]
        ),
        "/etcdserverpb.Cluster/MemberList": messages["MemberListResponse"](
            members=[messages["Member"](ID=3, name="etcd-0"), messages["Member"](ID=4)]
        ),
    }

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            answer = answers.get(details.method)
            if answer is None:
                return None
            return grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: answer, response_serializer=lambda message: message.SerializeToString()
            )

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with EtcdClient(f"127.0.0.1:{port}", timeout=5) as client:
        yield client
    server.stop(None).wait()


def test_status(member: EtcdClient) -> None:
    assert member.status() == Status("3.5.21", 20480, 8192, 3, 41, 3, 2)


def test_alarms_are_named_once(member: EtcdClient) -> None:
    assert member.alarms() == ["NOSPACE", "CORRUPT"]


def test_members(member: EtcdClient) -> None:
    assert member.members() == ["etcd-0", ""]


def test_a_call_that_the_server_does_not_know(member: EtcdClient) -> None:
    with pytest.raises(EtcdError, match="etcd refused Range"):
        member.get(b"cluster-id")
