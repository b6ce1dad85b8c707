# SPDX-FileCopyrightText: 2026 The pachops.pachyderm contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options that describe an installation; private to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for C(extends_documentation_fragment: pachops.pachyderm.settings)."""

    DOCUMENTATION = r"""
options:
  namespace:
    description: Namespace of the installation. It is created where it does not exist.
    type: str
    default: pachyderm
  version:
    description:
      - Version of Pachyderm, without a leading v.
      - 1.12.5 and 1.13.0 to 1.13.4 are supported.
    type: str
    default: 1.13.4
  backend:
    description:
      - Where Pachyderm keeps its objects.
      - V(local) is a directory of the node, V(minio) a store that only speaks version 2 of S3's signatures.
    type: str
    choices: [local, gcp, aws, minio]
    default: local
  cluster_deployment_id:
    description:
      - The id that every user's pachctl remembers and compares.
      - Without this option the recorded id is kept; where there is none, one is drawn and recorded.
      - Give it to carry an id over from another installation.
    type: str
  image_registry:
    description:
      - Registry, with or without a path, that mirrors the default images.
      - It replaces the registry of each default image; O(images) are taken as they are.
    type: str
  images:
    description: Images to use instead of the defaults of O(version), with tag, digest or both.
    type: dict
    suboptions:
      pachd:
        description: Image of pachd and of the workers' sidecar.
        type: str
      worker:
        description: Image that brings the worker's program into each pipeline's pod.
        type: str
      etcd:
        description: Image of etcd, 3.3.5 to 3.6, with C(etcd) on its PATH.
        type: str
      dash:
        description: Image of the dashboard.
        type: str
      grpc_proxy:
        description: Image of the dashboard's proxy.
        type: str
  image_pull_policy:
    description: When nodes pull; also for the workers.
    type: str
    choices: [IfNotPresent, Always, Never]
    default: IfNotPresent
  image_pull_secret:
    description: Name of a Secret of type C(kubernetes.io/dockerconfigjson) in the namespace; also for the workers.
    type: str
  host_path:
    description:
      - Directory of the node for O(backend=local), with objects in C(pachd) and metadata in C(etcd) below it.
      - Without this option it is C(/var/pachyderm/NAMESPACE), so that two installations stay apart.
    type: path
  pachd_replicas:
    description: Must be 1. It exists to say so, since Pachyderm 1.x does not work with more.
    type: int
    default: 1
  etcd_members:
    description:
      - Number of etcd members, 1 or 3.
      - It cannot be changed in place.
    type: int
    default: 1
  etcd_storage:
    description: Where etcd keeps its data. It cannot be changed in place.
    type: dict
    suboptions:
      type:
        description:
          - V(host_path) is C(etcd) below O(host_path), V(auto) that for O(backend=local) and else V(claim).
          - V(existing_claim) is a claim that somebody made by hand, for one member.
        type: str
        choices: [auto, claim, existing_claim, host_path]
        default: auto
      claim:
        description: Name of the existing claim.
        type: str
      storage_class:
        description: StorageClass of the claims; without it the cluster's default.
        type: str
      size:
        description: Size of each claim.
        type: str
        default: 10Gi
  log_level:
    description: How much pachd writes to its log.
    type: str
    choices: [debug, info, error]
    default: info
  block_cache:
    description: Size of pachd's cache of blocks. Without this option 256M (local), 0G (gcp) or 1G.
    type: str
  upload_concurrency:
    description: Most uploads to the object store at a time, in pachd and in each worker.
    type: int
    default: 100
  put_file_concurrency:
    description: Most files that one put-file request writes at a time.
    type: int
    default: 100
  resources:
    description: Requests and limits; a component's given ones replace its defaults.
    type: dict
    suboptions:
      pachd:
        description: Of pachd. A memory request is mandatory, because pachd sizes its buffers from it.
        type: dict
        suboptions: &resources
          requests:
            description: Quantities by resource.
            type: dict
          limits:
            description: Quantities by resource.
            type: dict
      etcd:
        description: Of each etcd member.
        type: dict
        suboptions: *resources
      dash:
        description: Of each of the dashboard's two containers.
        type: dict
        suboptions: *resources
  service:
    description: How the Service C(pachd) is reached.
    type: dict
    suboptions:
      type:
        description: Type of the Service.
        type: str
        choices: [ClusterIP, NodePort, LoadBalancer]
        default: ClusterIP
      annotations:
        description: Annotations of the Service.
        type: dict
      node_ports:
        description:
          - A map from port names to fixed ports of the nodes. A port that is not named here gets a free one.
          - Known are C(api-grpc-port) (what pachctl uses), C(trace-port), C(api-http-port), C(saml-port), C(oidc-port),
            C(api-git-port), C(s3gateway-port) and C(prom-metrics).
        type: dict
      source_ranges:
        description: Networks that a load balancer lets in.
        type: list
        elements: str
  dash:
    description: Whether to run the dashboard.
    type: bool
    default: false
  dash_service:
    description: How the Service C(dash) is reached.
    type: dict
    suboptions:
      type:
        description: Type of the Service.
        type: str
        choices: [ClusterIP, NodePort, LoadBalancer]
        default: ClusterIP
      annotations:
        description: Annotations of the Service.
        type: dict
      node_ports:
        description: A map from port names, C(dash-http) and C(grpc-proxy-http), to fixed ports of the nodes.
        type: dict
      source_ranges:
        description: Networks that a load balancer lets in.
        type: list
        elements: str
  tls:
    description: The certificate that pachd serves; without it pachd speaks plain gRPC.
    type: dict
    suboptions:
      secret_name:
        description: Name of an existing Secret with C(tls.crt) and C(tls.key).
        type: str
      cert:
        description: Certificate chain in PEM; a Secret is written from it.
        type: str
      key:
        description: Private key in PEM.
        type: str
  node_selector:
    description: Labels of the nodes that may run pachd, etcd and the dashboard.
    type: dict
  tolerations:
    description: Tolerations of pachd, etcd and the dashboard, as in a pod's specification.
    type: list
    elements: dict
  priority_class:
    description: PriorityClass of pachd, etcd and the dashboard.
    type: str
  iam_role:
    description: Role for kube2iam or kiam, set on pachd and on every worker.
    type: str
  service_account_annotations:
    description:
      - Annotations of both service accounts, pachd's and the workers'.
      - C(eks.amazonaws.com/role-arn) or C(iam.gke.io/gcp-service-account) make access to the object store keyless.
    type: dict
  cluster_roles:
    description: Whether pachd may read nodes, which only pipelines with a parallelism C(COEFFICIENT) need.
    type: bool
    default: false
  network_policy:
    description: Whether a NetworkPolicy lets only pachd, workers and backup jobs reach etcd.
    type: bool
    default: true
  extra_env:
    description: Further environment variables of pachd. Those that the collection sets itself are refused.
    type: dict
  extra_volumes:
    description: Further volumes of pachd's pod, as in a pod's specification.
    type: list
    elements: dict
  extra_volume_mounts:
    description: Mounts of O(extra_volumes) in pachd's container.
    type: list
    elements: dict
  host_aliases:
    description: Names that pachd resolves by its hosts file.
    type: list
    elements: dict
    suboptions:
      ip:
        description: Address.
        type: str
        required: true
      hostnames:
        description: Names of the address.
        type: list
        elements: str
        required: true
  ca_bundle:
    description:
      - Certificates in PEM that pachd trusts in addition to those in its image.
      - pachd does not hand them on to its workers; pipelines need the C(pod_patch) that
        M(pachops.pachyderm.pachyderm_deploy) returns.
    type: str
"""
