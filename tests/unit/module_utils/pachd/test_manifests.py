# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: one test per trap that a deployment of Pachyderm 1.x has to close, named after it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ansible_collections.pachops.pachyderm.plugins.module_utils.kube.kinds import KINDS
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd import manifests
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.settings import Settings
from ansible_collections.pachops.pachyderm.plugins.module_utils.pachd.storage_secret import ENVIRONMENT

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMA==\n-----END RSA PRIVATE KEY-----\n"

# Every feature on, so that a test over "all objects" sees all that can exist.
EVERYTHING: dict[str, Any] = {
    "backend": "aws",
    "cluster_deployment_id": "abc",
    "etcd_members": 3,
    "dash": True,
    "cluster_roles": True,
    "ca_bundle": PEM,
    "tls": {"cert": PEM, "key": KEY},
    "image_pull_secret": "puller",
    "iam_role": "pach",
    "service_account_annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/pach"},
    "node_selector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "priority_class": "high",
    "host_aliases": [{"ip": "10.0.0.1", "hostnames": ["storage.googleapis.com"]}],
    "extra_env": {"GC_PERCENT": "100"},
    "extra_volumes": [{"name": "more", "emptyDir": {}}],
    "extra_volume_mounts": [{"name": "more", "mountPath": "/more"}],
}


def build(**options: Any) -> list[dict[str, Any]]:
    return manifests.all_objects(Settings.parse({"cluster_deployment_id": "abc", **options}), checksum="c0ffee")


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name]
    return found


def container(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]


def environment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    variables = container(objects, "Deployment", "pachd")["env"]
    names = [variable["name"] for variable in variables]
    assert len(names) == len(set(names)), "a variable is set twice"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}


def etcd_flags(**options: Any) -> dict[str, str]:
    arguments = container(build(**options), "StatefulSet", "etcd")["args"]
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def test_no_expose_docker_socket() -> None:
    assert environment(build())["NO_EXPOSE_DOCKER_SOCKET"] == "true"


def test_service_etcd_has_an_address_and_comes_before_every_reader() -> None:
    objects = build()
    service = one(objects, "Service", "etcd")
    assert service["spec"]["type"] == "ClusterIP"
    assert "clusterIP" not in service["spec"]
    assert service["spec"]["ports"][0]["port"] == 2379
    order = [manifests.key(obj) for obj in objects]
    assert order.index(manifests.key(service)) < order.index(manifests.key(one(objects, "Deployment", "pachd")))
    assert one(objects, "Deployment", "pachd")["spec"]["template"]["spec"]["enableServiceLinks"] is True


def test_etcd_prefix_is_empty() -> None:
    assert environment(build())["ETCD_PREFIX"] == ""


def test_labels_that_pachctl_and_pachd_select_by() -> None:
    for obj in build(**EVERYTHING):
        labels = obj["metadata"]["labels"]
        assert labels["suite"] == "pachyderm"
        assert labels["app"]
        assert labels[manifests.MANAGED_BY] == manifests.MANAGER
    for kind, name in (("Deployment", "pachd"), ("StatefulSet", "etcd"), ("Deployment", "dash")):
        workload = one(build(**EVERYTHING), kind, name)["spec"]
        assert workload["selector"]["matchLabels"] == {"suite": "pachyderm", "app": name}
        assert workload["template"]["metadata"]["labels"] == {"suite": "pachyderm", "app": name}


def test_cluster_deployment_id_reaches_pachd_and_is_kept_outside_of_it() -> None:
    objects = build(cluster_deployment_id="stable-id")
    assert environment(objects)["CLUSTER_DEPLOYMENT_ID"] == "stable-id"
    assert one(objects, "ConfigMap", "pachops-installation")["data"]["cluster-deployment-id"] == "stable-id"


def test_variables_that_must_be_set_explicitly() -> None:
    variables = environment(build())
    assert variables["STORAGE_BACKEND"] == "LOCAL"
    assert variables["WORKER_IMAGE"] == "docker.io/pachyderm/worker:1.13.4"
    assert variables["WORKER_SIDECAR_IMAGE"] == "docker.io/pachyderm/pachd:1.13.4"
    assert variables["WORKER_SERVICE_ACCOUNT"] == "pachyderm-worker"
    assert variables["STORAGE_UPLOAD_CONCURRENCY_LIMIT"] == "100"
    assert variables["PPS_WORKER_GRPC_PORT"] == "80"
    assert variables["METRICS"] == "false"
    assert variables["PACHD_POD_NAME"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert variables["PACH_NAMESPACE"]["fieldRef"]["fieldPath"] == "metadata.namespace"
    assert variables["PACHD_MEMORY_REQUEST"]["resourceFieldRef"]["resource"] == "requests.memory"
    assert variables["PACH_ROOT"] == "/pach"
    assert variables["BLOCK_CACHE_BYTES"] == "256M"


def test_exec_probes_have_time() -> None:
    pachd = container(build(), "Deployment", "pachd")
    for probe in ("readinessProbe", "startupProbe"):
        assert pachd[probe]["exec"]["command"] == ["/pachd", "--readiness"]
        assert pachd[probe]["timeoutSeconds"] >= 30
    for obj in build(**EVERYTHING):
        for item in obj.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                assert item.get(probe, {"timeoutSeconds": 30})["timeoutSeconds"] >= 30


def test_startup_outlasts_the_six_minutes_of_an_unreachable_etcd() -> None:
    probe = container(build(), "Deployment", "pachd")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > 361


def test_tuning_options_reach_pachd_as_variables_and_not_only_as_files() -> None:
    variables = environment(build(backend="aws"))
    assert len(ENVIRONMENT) == 30
    for key, name in ENVIRONMENT.items():
        reference = variables[name]["secretKeyRef"]
        assert reference == {"name": "pachyderm-storage-secret", "key": key, "optional": True}
    mounts = container(build(backend="aws"), "Deployment", "pachd")["volumeMounts"]
    assert {"name": "pachyderm-storage-secret", "mountPath": "/pachyderm-storage-secret"} in mounts


def test_both_service_accounts_are_annotated_for_keyless_access() -> None:
    objects = build(**EVERYTHING)
    for name in ("pachyderm", "pachyderm-worker"):
        annotations = one(objects, "ServiceAccount", name)["metadata"]["annotations"]
        assert annotations["eks.amazonaws.com/role-arn"].endswith("role/pach")


@pytest.mark.parametrize("members", [1, 3])
def test_etcd_flags_that_are_not_optional(members: int) -> None:
    flags = etcd_flags(etcd_members=members)
    assert flags["max-txn-ops"] == "10000"
    assert flags["max-request-bytes"] == "52428800"
    assert flags["quota-backend-bytes"] == "8589934592"
    assert flags["auto-compaction-retention"] == "1"
    assert flags["data-dir"] == "/var/data/etcd"


def test_etcd_flags_are_spelled_as_every_release_from_3_3_to_3_6_reads_them() -> None:
    # Names in the flag lists of 3.3.5 (etcdmain/config.go) as well as of 3.6; 3.6 dropped --enable-v2 and the proxy.
    known = {
        *("name", "data-dir", "listen-client-urls", "advertise-client-urls", "listen-peer-urls"),
        *("initial-advertise-peer-urls", "initial-cluster", "initial-cluster-token", "initial-cluster-state"),
        *("auto-compaction-retention", "max-txn-ops", "max-request-bytes", "quota-backend-bytes"),
    }
    assert set(etcd_flags()) == known
    assert set(etcd_flags(etcd_members=3)) == known


def test_etcd_needs_no_shell() -> None:
    etcd = container(build(etcd_members=3), "StatefulSet", "etcd")
    assert etcd["command"] == ["etcd"]
    assert not any("${" in argument or " " in argument for argument in etcd["args"])
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert "exec" not in etcd[probe]


def test_etcd_name_is_given_once() -> None:
    etcd = container(build(), "StatefulSet", "etcd")
    assert "ETCD_NAME" not in [variable["name"] for variable in etcd["env"]]
    assert etcd_flags()["name"] == "$(POD_NAME)"
    # ETCD_PORT and its like, made by the Service of that name, would be read as options.
    assert one(build(), "StatefulSet", "etcd")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_every_variable_in_etcds_arguments_is_defined() -> None:
    for members in (1, 3):
        etcd = container(build(etcd_members=members), "StatefulSet", "etcd")
        defined = {variable["name"] for variable in etcd["env"]}
        text = " ".join(etcd["args"])
        used = {part.split(")")[0] for part in text.split("$(")[1:]}
        assert used <= defined


def test_etcd_volume_is_never_emptydir() -> None:
    kinds: list[dict[str, Any]] = [{"etcd_storage": {"type": kind}} for kind in ("auto", "claim", "host_path")]
    for options in [*kinds, {"backend": "gcp"}]:
        stateful_set = one(build(**options), "StatefulSet", "etcd")
        spec = stateful_set["spec"]
        assert "emptyDir" not in json.dumps(spec)
        volumes = {volume["name"] for volume in spec["template"]["spec"].get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        assert volumes | claims == {"etcd-storage"}
        assert not volumes & claims


def test_three_etcd_members_start_together_and_survive_the_loss_of_one() -> None:
    objects = build(etcd_members=3)
    spec = one(objects, "StatefulSet", "etcd")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert one(objects, "Service", "etcd-headless")["spec"]["publishNotReadyAddresses"] is True
    assert one(objects, "PodDisruptionBudget", "etcd")["spec"]["maxUnavailable"] == 1
    cluster = dict(member.split("=", 1) for member in etcd_flags(etcd_members=3)["initial-cluster"].split(","))
    assert list(cluster) == ["etcd-0", "etcd-1", "etcd-2"]
    assert cluster["etcd-1"] == "http://etcd-1.etcd-headless.$(NAMESPACE).svc:2380"


def test_three_members_on_one_node_keep_their_directories_apart() -> None:
    etcd = container(build(etcd_members=3), "StatefulSet", "etcd")
    assert etcd["volumeMounts"][0]["subPathExpr"] == "$(POD_NAME)"


def test_one_etcd_member_needs_neither_dns_nor_budget() -> None:
    assert etcd_flags()["initial-cluster"] == "$(POD_NAME)=http://127.0.0.1:2380"
    assert not [obj for obj in build() if obj["kind"] == "PodDisruptionBudget"]


def test_one_pachd_with_strategy_recreate() -> None:
    spec = one(build(), "Deployment", "pachd")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_only_api_groups_that_kubernetes_1_28_to_1_34_serve() -> None:
    for obj in build(**EVERYTHING):
        assert "beta" not in obj["apiVersion"]
        assert (obj["apiVersion"], obj["kind"]) in KINDS
        namespaced = KINDS[(obj["apiVersion"], obj["kind"])].namespaced
        assert ("namespace" in obj["metadata"]) == namespaced


def test_empty_annotations_are_not_rendered() -> None:
    assert "iam.amazonaws.com/role" not in json.dumps(build(backend="aws"))
    template = one(build(**EVERYTHING), "Deployment", "pachd")["spec"]["template"]
    assert template["metadata"]["annotations"]["iam.amazonaws.com/role"] == "pach"
    assert environment(build(**EVERYTHING))["IAM_ROLE"] == "pach"

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "annotations":
                    assert item
                    assert all(item.values())
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(build())
    walk(build(**EVERYTHING))


def test_node_ports_only_when_given() -> None:
    assert "nodePort" not in json.dumps(build(service={"type": "NodePort"}))
    service = one(build(service={"type": "NodePort", "node_ports": {"api-grpc-port": 31650}}), "Service", "pachd")
    assert service["spec"]["ports"][0]["nodePort"] == 31650
    assert "nodePort" not in service["spec"]["ports"][1]


def test_grpc_is_the_first_port_of_service_pachd() -> None:
    service = one(build(), "Service", "pachd")
    assert (service["spec"]["ports"][0]["name"], service["spec"]["ports"][0]["port"]) == ("api-grpc-port", 650)
    peer = one(build(), "Service", "pachd-peer")
    assert (peer["spec"]["ports"][0]["port"], peer["spec"]["ports"][0]["targetPort"]) == (30653, 653)


def test_service_of_another_type_with_annotations() -> None:
    options = {"type": "LoadBalancer", "annotations": {"a/b": "c"}, "source_ranges": ["10.0.0.0/8"]}
    service = one(build(service=options), "Service", "pachd")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert service["metadata"]["annotations"]["a/b"] == "c"
    assert service["metadata"]["annotations"]["prometheus.io/port"] == "656"


def test_rbac_is_namespaced_by_default() -> None:
    kinds = {obj["kind"] for obj in build()}
    assert "ClusterRole" not in kinds
    assert "ClusterRoleBinding" not in kinds
    for obj in build():
        assert obj["metadata"]["namespace"] == "pachyderm"


def test_rbac_gives_pachd_what_its_self_test_asks_for() -> None:
    rules = one(build(), "Role", "pachyderm")["rules"]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert {("pods", "watch"), ("pods", "list"), ("pods/log", "get"), ("secrets", "deletecollection")} <= granted
    for resource in ("replicationcontrollers", "replicationcontrollers/scale", "services"):
        assert {(resource, verb) for verb in ("get", "list", "watch", "create", "update", "delete")} <= granted
    assert not [rule for rule in rules if "nodes" in rule["resources"]]


def test_cluster_role_reads_nodes_and_nothing_else() -> None:
    role = one(build(cluster_roles=True), "ClusterRole", "pachyderm-pachyderm")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}]


def test_two_installations_in_one_cluster_share_nothing() -> None:
    first = build(**{**EVERYTHING, "backend": "local", "namespace": "one"})
    second = build(**{**EVERYTHING, "backend": "local", "namespace": "two"})
    assert not {manifests.key(obj) for obj in first} & {manifests.key(obj) for obj in second}
    assert "/var/pachyderm/one" in json.dumps(first)
    assert "/var/pachyderm/one" not in json.dumps(second)


def test_network_policy_lets_only_pachd_workers_and_marked_jobs_reach_etcd() -> None:
    policy = one(build(), "NetworkPolicy", "etcd")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"suite": "pachyderm", "app": "etcd"}
    clients, peers = policy["ingress"]
    assert [port["port"] for port in clients["ports"]] == [2379]
    assert [source["podSelector"]["matchLabels"] for source in clients["from"]] == [
        {"suite": "pachyderm", "app": "pachd"},
        {"suite": "pachyderm", "component": "worker"},
        {"pachops.io/etcd-client": "true"},
        {"suite": "pachyderm", "app": "etcd"},
    ]
    assert [port["port"] for port in peers["ports"]] == [2380]
    assert not [obj for obj in build(network_policy=False) if obj["kind"] == "NetworkPolicy"]


def test_local_objects_are_on_the_node_where_the_workers_look() -> None:
    objects = build(host_path="/data/pach")
    volumes = one(objects, "Deployment", "pachd")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "pach-disk", "hostPath": {"path": "/data/pach/pachd", "type": "DirectoryOrCreate"}} in volumes
    assert environment(objects)["STORAGE_HOST_PATH"] == "/data/pach/pachd"
    clouds = build(backend="gcp")
    assert "hostPath" not in json.dumps(clouds)
    assert environment(clouds)["STORAGE_HOST_PATH"] == ""


def test_pachd_restarts_when_the_secrets_content_changes_and_etcd_does_not() -> None:
    settings = Settings.parse({"cluster_deployment_id": "abc"})
    before = manifests.all_objects(settings, checksum="one")
    after = manifests.all_objects(settings, checksum="two")
    changed = {manifests.key(old)[1:] for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {("Deployment", "pachyderm", "pachd")}


def test_a_log_level_rolls_pachd_alone() -> None:
    before, after = build(), build(log_level="debug")
    changed = {manifests.key(old)[1:] for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {("Deployment", "pachyderm", "pachd")}


def test_an_etcd_image_rolls_etcd_alone() -> None:
    before, after = build(), build(images={"etcd": "registry.example/etcd:v3.5.21"})
    changed = {manifests.key(old)[1:] for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {("StatefulSet", "pachyderm", "etcd")}


def test_tls_certificate_is_mounted_where_pachd_looks() -> None:
    objects = build(tls={"cert": PEM, "key": KEY})
    assert one(objects, "Secret", "pachd-tls-cert")["type"] == "kubernetes.io/tls"
    volumes = one(objects, "Deployment", "pachd")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "pachd-tls-cert", "secret": {"secretName": "pachd-tls-cert"}} in volumes
    own = build(tls={"secret_name": "mine"})
    assert not [obj for obj in own if obj["kind"] == "Secret"]
    volumes = one(own, "Deployment", "pachd")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "pachd-tls-cert", "secret": {"secretName": "mine"}} in volumes


def test_a_private_ca_is_added_to_the_ones_in_the_image() -> None:
    objects = build(ca_bundle=PEM)
    assert environment(objects)["SSL_CERT_DIR"] == "/etc/ssl/certs:/pachyderm-ca"
    assert one(objects, "ConfigMap", "pachyderm-ca")["data"]["ca.crt"] == PEM
    assert "SSL_CERT_DIR" not in environment(build())


def test_pull_secret_reaches_pods_and_workers() -> None:
    objects = build(**EVERYTHING)
    for kind, name in (("Deployment", "pachd"), ("StatefulSet", "etcd"), ("Deployment", "dash")):
        pod = one(objects, kind, name)["spec"]["template"]["spec"]
        assert pod["imagePullSecrets"] == [{"name": "puller"}]
        assert pod["nodeSelector"] == {"disk": "ssd"}
        assert pod["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
        assert pod["priorityClassName"] == "high"
    assert environment(objects)["IMAGE_PULL_SECRET"] == "puller"


def test_what_a_custom_endpoint_needs_reaches_pachd() -> None:
    objects = build(**EVERYTHING)
    pod = one(objects, "Deployment", "pachd")["spec"]["template"]["spec"]
    assert pod["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["storage.googleapis.com"]}]
    assert {"name": "more", "emptyDir": {}} in pod["volumes"]
    assert {"name": "more", "mountPath": "/more"} in pod["containers"][0]["volumeMounts"]
    assert environment(objects)["GC_PERCENT"] == "100"


def test_dash_is_off_by_default() -> None:
    assert not [obj for obj in build() if obj["metadata"]["name"] == "dash"]
    dash = one(build(dash=True), "Deployment", "dash")["spec"]["template"]["spec"]
    assert [item["image"].rpartition("/")[2] for item in dash["containers"]] == ["dash:0.5.57", "grpc-proxy:0.4.10"]


def test_what_was_switched_off_is_stale() -> None:
    everything = Settings.parse(EVERYTHING)
    assert manifests.stale(everything) == []
    plain = Settings.parse({"backend": "aws", "network_policy": False})
    names = {(kind, name) for _api, kind, _namespace, name in manifests.stale(plain)}
    assert names == {
        ("ClusterRole", "pachyderm-pachyderm"),
        ("ClusterRoleBinding", "pachyderm-pachyderm"),
        ("NetworkPolicy", "etcd"),
        ("PodDisruptionBudget", "etcd"),
        ("Secret", "pachd-tls-cert"),
        ("ConfigMap", "pachyderm-ca"),
        ("Service", "dash"),
        ("Deployment", "dash"),
    }


def test_stale_covers_all_that_is_optional() -> None:
    always = {manifests.key(obj) for obj in build(backend="aws", network_policy=False)}
    optional = {manifests.key(obj) for obj in build(**EVERYTHING)} - always
    assert optional == set(manifests.stale(Settings.parse({"backend": "aws", "network_policy": False})))


def test_pods_run_without_escalation() -> None:
    for kind, name in (("Deployment", "pachd"), ("StatefulSet", "etcd"), ("Deployment", "dash")):
        for item in one(build(**EVERYTHING), kind, name)["spec"]["template"]["spec"]["containers"]:
            assert item["securityContext"]["allowPrivilegeEscalation"] is False
    pachd = container(build(), "Deployment", "pachd")["securityContext"]["capabilities"]
    assert pachd == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}


def test_unknown_component() -> None:
    with pytest.raises(KeyError):
        manifests.component("postgres", Settings.parse({}))


def _patched(pod: dict[str, Any], patch: str) -> dict[str, Any]:
    """The pod after a JSON patch of additions (RFC 6902)."""
    pod = copy.deepcopy(pod)
    for operation in json.loads(patch):
        assert operation["op"] == "add"
        *parents, last = operation["path"].split("/")[1:]
        target: Any = pod
        for each in parents:
            target = target[int(each)] if isinstance(target, list) else target[each]
        if last == "-":
            target.append(operation["value"])
        else:
            assert last not in target
            target[last] = operation["value"]
    return pod


def test_pipelines_get_by_their_patch_what_pachd_gets() -> None:
    """In the shape of worker_rc.go: container 0 is the user's, 1 the sidecar; all lists are there, hostAliases is not."""
    volumes = [{"name": "token", "projected": {"sources": []}}]
    mounts = [{"name": "token", "mountPath": "/var/run/token"}]
    aliases = [{"ip": "10.0.0.1", "hostnames": ["storage.googleapis.com"]}]
    settings = Settings.parse(
        {
            "ca_bundle": PEM,
            "host_aliases": aliases,
            "extra_env": {"AWS_ROLE_ARN": "arn"},
            "extra_volumes": volumes,
            "extra_volume_mounts": mounts,
        }
    )
    container = {"env": [{"name": "PACH_ROOT", "value": "/pach"}], "volumeMounts": [{"name": "x", "mountPath": "/x"}]}
    worker = {"containers": [copy.deepcopy(container), copy.deepcopy(container)], "volumes": [{"name": "x"}]}
    pod = _patched(worker, manifests.pipeline_pod_patch(settings))
    objects = manifests.component("pachd", settings)
    pachd = one(objects, "Deployment", "pachd")["spec"]["template"]["spec"]
    for each in pod["containers"]:
        assert {item["name"]: item["value"] for item in each["env"]} == {
            "PACH_ROOT": "/pach",
            "SSL_CERT_DIR": "/etc/ssl/certs:/pachyderm-ca",
            "AWS_ROLE_ARN": "arn",
        }
        assert all(mount in pachd["containers"][0]["volumeMounts"] for mount in each["volumeMounts"][1:])
        assert len(each["volumeMounts"]) == 3
    assert pod["volumes"][1:] == pachd["volumes"][-2:]
    assert pod["hostAliases"] == pachd["hostAliases"] == aliases
    record = one(manifests.component("base", settings), "ConfigMap", "pachops-installation")
    assert record["data"]["pipeline-pod-patch"] == manifests.pipeline_pod_patch(settings)


def test_pipelines_need_no_patch_where_pachd_needs_nothing_either() -> None:
    settings = Settings.parse({"backend": "aws", "iam_role": "pachyderm"})
    assert manifests.pipeline_pod_patch(settings) == ""
    record = one(manifests.component("base", settings), "ConfigMap", "pachops-installation")
    assert "pipeline-pod-patch" not in record["data"]
