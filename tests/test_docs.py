"""What docs/backends.md says, run and looked up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spcnn_lightning.adapters import get_backend, registry
from spcnn_lightning.commands import main as program

DOCS = Path(__file__).parent.parent / "docs" / "backends.md"


def test_the_interop_program_runs():
    if reasons := get_backend("spconv").availability():
        pytest.skip("; ".join(reasons))
    (program,) = re.findall(
        r"<!-- interop -->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(program, names)
    assert names["ours"](names["batch"]).num_sites == names["result"].num_sites > 0


def test_the_table_has_every_backend_and_algorithm():
    text = DOCS.read_text(encoding="utf-8")
    for name in registry.BUILT_IN:
        assert f"`{name}`" in text
        for algorithm in getattr(get_backend(name), "algorithms", ()):
            # Those of spconv-triton are spconv's, and said once.
            assert f"`{name.removesuffix('_triton')}:{algorithm}`" in text


def test_every_extra_that_is_named_exists(repository):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = [
        file
        for folder in ("spcnn_lightning", "adapters", "datamodules", "docs")
        for file in (repository / folder).rglob("*.*")
        if file.suffix in {".py", ".md"}
    ]
    named = {
        extra
        for file in [*files, repository / "README.md"]
        for extra in re.findall(
            r"(?:spcnn-lightning|\.)\[(\w+)\]", file.read_text(encoding="utf-8")
        )
    }
    assert {"spconv", "triton", "export", "viz", "parquet"} <= named
    assert named <= set(project["optional-dependencies"])


def test_the_settings_for_several_processes_are_understood(tmp_path, capsys):
    text = DOCS.with_name("distributed.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"<!-- ddp -->\n```yaml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "ddp.yaml"
    file.write_text(settings, encoding="utf-8")
    with pytest.raises(SystemExit, match="0"):
        program.main(["fit", "--config", "casia_deepcnet", "--config", str(file), "--print_config"])
    printed = capsys.readouterr().out
    for word in ("EMAWeightAveraging", "sites_per_batch: 40000", "gradient_clip_val: 1.0"):
        assert word in printed
