"""The dashboard asks for metrics that exist; the Kubernetes manifests hold together."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from worker.cli import app

DEPLOY = Path(__file__).parent.parent / "deploy"
FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS = [item for path in FILES for item in yaml.safe_load_all(path.read_text())]
WORKLOADS = [item for item in OBJECTS if item["kind"] in ("Deployment", "Job")]


def metrics_of(source):
    return set(re.findall(r"\bgliograde_\w+", source))


def exposed():
    """Names in the collector's own source; what it serves is tested beside it."""
    source = (Path(__file__).parent.parent / "worker" / "upkeep" / "metrics.py").read_text()
    made = re.findall(r'_gauge\(\s*"(\w+)"|_by\(\s*"\w+", "(\w+)"', source)
    return {f"gliograde_{first or second}" for first, second in made} | metrics_of(source)


def test_each_metric_of_the_dashboard_and_of_the_alerts_exists():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    asked = metrics_of(" ".join(target["expr"] for panel in panels for target in panel["targets"]))
    asked |= metrics_of(" ".join(re.findall(r"expr: (.+)", (DEPLOY / "alerts.yaml").read_text())))
    assert len(asked) >= 11
    assert asked <= exposed()


def test_the_panels_have_their_own_numbers_and_places():
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kubernetes_own_schemas_are_kept(path):
    """Whichever version of Kubernetes the linter knows best; nothing is asked of a cluster."""
    for item in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(item, "1.37", strict=True)
    item["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(item, "1.37", strict=True)


def test_there_is_a_workload_for_each_part():
    parts = {item["metadata"]["labels"]["part"] for item in WORKLOADS}
    assert parts == {"node", "cpu", "gpu", "send", "beat", "metrics", "web", "migrate"}
    [beat] = [item for item in WORKLOADS if item["metadata"]["labels"]["part"] == "beat"]
    assert (beat["spec"]["replicas"], beat["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_the_handbook_asks_containers_that_exist():
    page = (DEPLOY.parent / "docs" / "operate.md").read_text()
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    deployments = {item["metadata"]["name"] for item in WORKLOADS if item["kind"] == "Deployment"}
    assert {*re.findall(r"docker compose exec (\w+)", page)} == {"cpu"} <= services.keys()
    assert {*re.findall(r"deployment/([\w-]+)", page)} == {"gliograde-cpu"} <= deployments


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda item: item["metadata"]["name"])
def test_each_workload_is_confined_and_mounts_what_it_names(workload):
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    confined = container["securityContext"]
    assert confined["readOnlyRootFilesystem"]
    assert not confined["allowPrivilegeEscalation"]
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {item["name"] for item in pod["volumes"]}
    labels = workload["spec"]["template"]["metadata"]["labels"]
    if workload["kind"] == "Deployment":
        assert workload["spec"]["selector"]["matchLabels"] == labels
    command = container["command"]
    if command[0] == "gliograde":
        assert command[1] in get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    wants_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
    assert wants_gpu == (labels["part"] == "gpu")


def test_the_gpu_part_alone_goes_to_a_node_with_a_gpu_and_past_its_taint():
    pods = {
        item["metadata"]["labels"]["part"]: item["spec"]["template"]["spec"]
        for item in WORKLOADS
        if "nodeSelector" in item["spec"]["template"]["spec"]
    }
    assert pods.keys() == {"gpu"}
    assert pods["gpu"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [item["key"] for item in pods["gpu"]["tolerations"]] == ["nvidia.com/gpu"]


def test_each_probe_asks_a_port_that_the_container_and_its_service_name():
    probed: dict[str, list[str | None]] = {}
    for item in WORKLOADS:
        [container] = item["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            if probe in container:
                asked = container[probe].get("httpGet") or container[probe]["tcpSocket"]
                assert asked["port"] in ports
                probed.setdefault(item["metadata"]["labels"]["part"], []).append(asked.get("path"))
    watched = ["/ready", "/live"]
    assert probed == {"node": [None, None], "metrics": watched, "web": watched}
    for service in (item for item in OBJECTS if item["kind"] == "Service"):
        [port] = service["spec"]["ports"]
        assert port["targetPort"] == port["name"]


def test_the_web_part_listens_on_the_port_that_is_asked():
    [web] = [item for item in WORKLOADS if item["metadata"]["labels"]["part"] == "web"]
    [container] = web["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["GLIOGRADE_WEB_PORT"] == str(container["ports"][0]["containerPort"])
    assert environment["GLIOGRADE_WEB_ADDRESS"] == "0.0.0.0"


def test_services_and_budgets_select_a_workload():
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in WORKLOADS]
    selectors = [item["spec"]["selector"] for item in OBJECTS if item["kind"] == "Service"]
    budgets = [item for item in OBJECTS if item["kind"] == "PodDisruptionBudget"]
    selectors += [item["spec"]["selector"]["matchLabels"] for item in budgets]
    assert len(selectors) == 4
    assert all(selector in labels for selector in selectors)
    replicas = {
        item["metadata"]["labels"]["part"]: item["spec"].get("replicas")
        for item in WORKLOADS
        if item["kind"] == "Deployment"
    }
    # a budget on a single replica would keep its machine from ever being emptied
    assert all(replicas[item["metadata"]["labels"]["part"]] > 1 for item in budgets)
