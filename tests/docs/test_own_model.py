"""The code of docs/own_model.md runs: every section on a small network of its kind, with the names that the page leaves to the reader.

Frameworks that are no dependency (``pip install -e '.[frameworks]'``) are tried where they are installed.
"""

import copy
import re
import runpy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import zoo
from conftest import ROOT
from torch import Tensor, nn

from replication.data.sources import import_torchvision
from replication.objective import Objective
from replication.recorder import Recorder

PAGE = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")
BLOCKS = {
    section.partition("\n")[0].lstrip("# "): re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    for section in re.split(r"^(?=##? )", PAGE, flags=re.MULTILINE)
}
IMPORTS = "".join(line for block in BLOCKS["Your own model"] for line in block.splitlines(True) if line.startswith(("import ", "from ")))
Names = dict[str, Any]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures into a folder of their own; random numbers as they were."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    plt.close("all")


def mlp(n_inputs: int = 6, n_outputs: int = 3) -> nn.Sequential:
    layers = {"fc1": nn.Linear(n_inputs, 8), "act1": nn.Tanh(), "fc2": nn.Linear(8, 5), "act2": nn.Tanh(), "out": nn.Linear(5, n_outputs)}
    return nn.Sequential(OrderedDict(layers))


def features_and_labels() -> tuple[Tensor, Tensor]:
    return torch.randn(48, 6), torch.arange(48) % 3


def run(section: str, **names: Any) -> Names:
    """All code of a section, with the imports of the page's first one."""
    axis = np.linspace(-1, 1, 3)
    namespace: Names = {"nn": nn, "alphas": axis, "betas": axis} | names
    for code in (IMPORTS, *BLOCKS[section]):
        exec(compile(code, f"own_model.md, {section}", "exec"), namespace)  # noqa: S102 - our own file
    return namespace


def loss_at_the_model(names: Names) -> float:
    return names["objective"].value(names["objective"].parameters())


def test_the_first_lines_draw_a_picture() -> None:
    inputs, labels = features_and_labels()
    model = mlp()
    names = run("Your own model", model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), inputs=inputs, labels=labels)
    assert len(BLOCKS["Your own model"][0].splitlines()) == 15
    assert Path("layers.png").stat().st_size > 10_000
    change = names["tables"]["steps"]["loss_end"].iloc[-1] - names["tables"]["steps"]["loss_start"].iloc[0]
    assert names["tables"]["layers"]["lca"].sum() == pytest.approx(change, rel=0.02)


def test_tokens() -> None:
    member = zoo.build("language_transformer")
    names = run("Tokens", model=member.model.train(), ids=member.inputs)
    assert loss_at_the_model(names) == pytest.approx(zoo.plain_value(member, names["objective"].parameters()), rel=1e-5)
    assert names["gram"]["total"].shape == (zoo.N, zoo.N)


def test_dicts_with_a_mask() -> None:
    member = zoo.build("masked_transformer")
    ids, mask = member.inputs["input_ids"], member.inputs["attention_mask"]
    names = run("Dicts, with an attention mask", model=member.model.train(), ids=ids, mask=mask, labels=member.labels)
    assert loss_at_the_model(names) == pytest.approx(zoo.plain_value(member, names["objective"].parameters()), rel=1e-5)


def test_a_loader_gives_what_tensors_give() -> None:
    inputs, labels = features_and_labels()
    untrained = mlp()
    model = copy.deepcopy(untrained)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(model, optimizer)
    for _ in range(3):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    dataset = torch.utils.data.TensorDataset(inputs, labels)
    names = run("Data that do not fit into memory", model=model, untrained=untrained, dataset=dataset, recorder=recorder)
    in_memory = Objective(model, inputs, labels)
    assert loss_at_the_model(names) == pytest.approx(in_memory.value(in_memory.parameters()), rel=1e-6)


def test_regression() -> None:
    features = torch.randn(40, 6)
    targets = features.sum(1, keepdim=True).sin()
    names = run("Regression", model=mlp(n_outputs=1), features=features, targets=targets)
    outputs = names["model"](features)
    expected = ((outputs - targets) / (1 + targets.abs())).square().mean().item()
    assert loss_at_the_model(names) == pytest.approx(expected, rel=1e-5)


def test_a_recurrent_network() -> None:
    sequences, labels = torch.randn(30, 5, 3), torch.arange(30) % 2
    names = run("Recurrent networks", sequences=sequences, labels=labels)
    expected = nn.functional.cross_entropy(names["model"](sequences), labels).item()
    assert loss_at_the_model(names) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(names["states"], names["model"].lstm(sequences)[0].detach())


def test_recording_a_training() -> None:
    features, labels = features_and_labels()
    model = mlp()
    objective = Objective(model, features, labels)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = run("Recording a training", model=model, optimizer=optimizer, features=features, labels=labels, objective=objective)
    assert names["recorder"].trajectory.shape == (61, objective.n_parameters)


def test_layers_by_name() -> None:
    parts = {"conv1": nn.Conv2d(1, 4, 3), "bn1": nn.BatchNorm2d(4), "layer1": nn.Conv2d(4, 5, 3), "layer2": nn.Conv2d(5, 6, 3)}
    model = nn.Sequential(OrderedDict(parts | {"flat": nn.Flatten(), "fc": nn.Linear(24, 3)}))

    def neurons(output: Tensor) -> Tensor:
        return output.mean((2, 3)) if output.dim() == 4 else output

    names = run("Layers by name", before=copy.deepcopy(model), model=model, held_out=torch.randn(60, 1, 8, 8), neurons=neurons)
    assert len(names["matrix"]) == 16


@pytest.fixture
def framework() -> Callable[[str], Any]:
    """Imports a framework, or skips the test."""
    import_torchvision()  # first: some builds of torchvision lack operators, and the frameworks import it
    return lambda name: pytest.importorskip(name, reason=f"{name} comes with the extra `frameworks`")


@pytest.mark.filterwarnings("default")
def test_a_model_of_hugging_face(framework: Callable[[str], Any]) -> None:
    framework("transformers")
    ids, mask = torch.randint(100, (20, 7)), (torch.arange(7) < torch.randint(3, 8, (20, 1))).long()
    labels = torch.arange(20) % 3
    names = run("Hugging Face", ids=ids, mask=mask, labels=labels)
    outputs = copy.deepcopy(names["model"]).eval()(input_ids=ids, attention_mask=mask, labels=labels)
    assert names["value"] == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert names["gradient"].norm() > 0


@pytest.mark.filterwarnings("default")
def test_a_callback_of_lightning_records_every_step(framework: Callable[[str], Any], tmp_path: Path) -> None:
    lightning = framework("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    inputs, labels = features_and_labels()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=16)
    folder = tmp_path / "recording"
    names = run("Lightning", lightning=lightning, module=Module(), loader=loader, inputs=inputs, labels=labels, folder=folder)
    assert len(names["tables"]["steps"]) == 6


@pytest.mark.filterwarnings("default")
def test_a_callback_of_the_trainer_records_every_step(framework: Callable[[str], Any], tmp_path: Path) -> None:
    transformers = framework("transformers")
    framework("accelerate")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3
    )
    ids, labels = torch.randint(50, (16, 5)), torch.arange(16) % 3
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dataset = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": label} for row, label in zip(ids, labels, strict=True)]
    names = run(
        "The Trainer of Hugging Face",
        transformers=transformers,
        model=transformers.BertForSequenceClassification(config),
        dataset=dataset,
        inputs=inputs,
        labels=labels,
        folder=tmp_path / "recording",
        output_dir=str(tmp_path / "trainer"),
    )
    assert len(names["tables"]["steps"]) == 4


def test_every_section_with_code_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert all(f'run("{section}"' in tests or f'"{section}",\n' in tests for section, blocks in BLOCKS.items() if blocks)


def test_the_pictures_are_drawn_by_the_code_of_the_pages(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "docs/images/plots.py"))["draw"](tmp_path / "pictures")
    drawn = {path.name for path in (tmp_path / "pictures").glob("*.png")}
    assert drawn == {path.name for path in (ROOT / "docs/images/plots").glob("*.png")}
    shown = (ROOT / "docs/plots.md").read_text(encoding="utf-8") + PAGE
    assert drawn == {f"{name}.png" for name in re.findall(r"images/plots/(\w+)\.png", shown)}


def test_the_first_code_of_the_page_on_landscapes_runs() -> None:
    inputs, labels = features_and_labels()
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/landscape.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    names: Names = {"model": mlp(), "images": inputs, "labels": labels, "alphas": np.linspace(-1, 1, 5), "betas": np.linspace(-1, 1, 5)}
    exec(compile("".join(code), "landscape.md", "exec"), names)  # noqa: S102 - our own file
    assert names["loss"].shape == (5, 5)
