"""`report.html`: one self-contained page about a run, made from its folder alone.

The first screen says what was trained, what came out, where things are and what to type next; plots follow. No
scripts, nothing fetched. It can be written at any time of a run, and again.
"""

import html
import statistics
from pathlib import Path
from typing import Any

from godwit.base.files import read_json, write_atomic
from godwit.base.page import page
from godwit.base.progress import short_number, short_time
from godwit.base.runs import RunFolder
from godwit.train.index_plots import index_plots, index_table
from godwit.train.plots import Curve, heat_map, line_plot


def write_report(run: RunFolder) -> Path:
    """Write `report.html` into the run folder and return its path."""
    rows = run.read_metrics()
    trained = [row for row in rows if "loss" in row]
    validated = [row for row in rows if "valid_loss" in row]
    config = run.config()
    parts = [
        f"<h1>{html.escape(str(config['name']))}</h1>",
        _headline(trained, validated),
        _facts(run, config, trained, validated),
        _next(run),
        index_table(validated, config),
        *_plots(run, trained, validated),
        _samples(run.path / "samples.md"),
        f"<h2>Config</h2><pre>{html.escape(_config_lines(config))}</pre>",
    ]
    path = run.path / "report.html"
    write_atomic(path, page(str(config["name"]), parts))
    return path


def _headline(trained: list[dict[str, Any]], validated: list[dict[str, Any]]) -> str:
    if not trained:
        return '<p class="big">No step has been logged yet.</p>'
    words = f"training loss {trained[0]['loss']:.3f} &rarr; <b>{trained[-1]['loss']:.3f}</b>"
    if validated:
        end = validated[-1]
        words += f", validation <b>{end['valid_loss']:.3f}</b> ({end['bits_per_byte']:.3f} bits per byte)"
    return f'<p class="big">{words}</p>'


def _facts(
    run: RunFolder, config: dict[str, Any], trained: list[dict[str, Any]], validated: list[dict[str, Any]]
) -> str:
    model, where = config["model"], read_json(run.path / "provenance.json")
    planned = sum(stage["tokens"] for stage in config["stages"])
    experts = ""
    if "n_routed_experts" in model:
        experts = f"{model['n_routed_experts']} experts (top {model['num_experts_per_tok']}), "
    facts = {
        "model": f"{model['model_type']}, {model['num_hidden_layers']} layers of width {model['hidden_size']}, "
        f"{experts}vocabulary {model['vocab_size']}",
        "data": ", ".join(config["data"]["sources"]),
        "stages": "; ".join(
            f"{stage['name']}: {short_number(stage['tokens'])} tokens in rows of {stage['seq_len']}"
            for stage in config["stages"]
        ),
    }
    if trained:
        end = trained[-1]
        speed = statistics.median(row["tokens_per_second"] for row in trained)
        mfu = statistics.median(row["mfu"] for row in trained)
        facts["trained"] = f"{short_number(end['tokens'])} of {short_number(planned)} tokens, {end['step']} steps"
        facts["time"] = (
            f"{short_time(end['seconds'])} of steps, {short_number(speed)} tokens/s, "
            f"{mfu:.0%} of a plain matrix product's rate"
        )
        facts["memory"] = f"{max(row['memory_bytes'] for row in trained) / 1e9:.2f} GB at most"
    if len(validated) > 1:
        best = min(validated, key=lambda row: row["valid_loss"])
        facts["best validation"] = f"{best['valid_loss']:.4f} at step {best['step']}"
    facts["machine"] = f"{where['cpu']}, {where['cores']} cores" + "".join(f", {name}" for name in where["gpus"])
    facts["made by"] = f"godwit {where['godwit']}, commit {where['commit'] or 'unknown'}, begun {where['date']}"
    cells = (f"<tr><td>{name}</td><td>{html.escape(text)}</td></tr>" for name, text in facts.items())
    return f"<table>{''.join(cells)}</table>"


def _next(run: RunFolder) -> str:
    if not (run.path / "model").is_dir():
        return "<h2>What to do next</h2><p>The run is not finished. The command that started it continues it.</p>"
    folder = html.escape(str(run.path))
    return (
        "<h2>Where things are, and what to type next</h2>"
        f"<p>The model is in <code>{folder}/model</code> in Hugging Face's format, samples in "
        f"<code>{folder}/samples.md</code>, every logged number in <code>{folder}/metrics.jsonl</code>, "
        f"checkpoints in <code>{folder}/checkpoints</code>.</p>"
        f'<pre>godwit generate {folder}/model "Once"\ntensorboard --logdir {folder}/tensorboard\n'
        f"python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}/model')\"</pre>"
    )


def _plots(run: RunFolder, trained: list[dict[str, Any]], validated: list[dict[str, Any]]) -> list[str]:
    if not trained:
        return []
    steps = [row["step"] for row in trained]

    def curve(key: str, name: str = "") -> Curve:
        return Curve(steps=steps, values=[row[key] for row in trained], name=name)

    losses = [curve("loss", "training")]
    if validated:
        values = [row["valid_loss"] for row in validated]
        losses.append(Curve(steps=[row["step"] for row in validated], values=values, name="validation", dots=True))
    for depth in range(len(trained[0]["mtp_losses"])):
        values = [row["mtp_losses"][depth] for row in trained]
        losses.append(Curve(steps=steps, values=values, name=f"{depth + 2} tokens ahead"))
    plots = [("Loss", "nats per token", line_plot(losses, ylabel="loss"))]
    if validated:
        bits = Curve(
            steps=[row["step"] for row in validated], values=[row["bits_per_byte"] for row in validated], dots=True
        )
        plots.append(("Bits per byte", "validation text", line_plot([bits], ylabel="bits per byte")))
    plots += index_plots(trained, validated)
    plots.append(
        ("Throughput", "tokens per second of steps", line_plot([curve("tokens_per_second")], ylabel="tokens/s"))
    )
    if trained[-1]["load_max_violation"]:
        plots += _load_plots(run, trained, steps)
    groups = [
        Curve(steps=steps, values=[row["grad_norms"].get(name, 0.0) for row in trained], name=name)
        for name in trained[-1]["grad_norms"]
    ]
    norms = [curve("grad_norm", "all"), *groups]
    plots.append(("Gradient norm", "before clipping", line_plot(norms, ylabel="2-norm", log=True)))
    plots.append(("Learning rate", "", line_plot([curve("lr")], ylabel="learning rate")))
    return [f'<h2>{title}</h2><p class="note">{note}</p>{svg}' for title, note, svg in plots]


def _load_plots(run: RunFolder, trained: list[dict[str, Any]], steps: list[int]) -> list[tuple[str, str, str]]:
    worst = Curve(steps=steps, values=[max(row["load_max_violation"]) for row in trained], name="worst layer")
    mean = Curve(
        steps=steps, values=[statistics.fmean(row["load_max_violation"]) for row in trained], name="mean layer"
    )
    note = "busiest expert over the layer's mean, minus 1: 0 is perfect balance"
    plots = [("Expert balance", note, line_plot([worst, mean], ylabel="max violation"))]
    path = run.path / "expert_load.json"
    if path.exists():
        latest = read_json(path)
        plots.append(("Expert load", f"around step {latest['step']}", heat_map(latest["load"])))
    return plots


def _samples(path: Path) -> str:
    if not path.exists():
        return ""
    return f"<h2>Samples</h2><pre>{html.escape(path.read_text(encoding='utf-8'))}</pre>"


def _config_lines(value: Any, indent: str = "") -> str:
    """A config as indented lines, one leaf each."""
    lines = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict) or (isinstance(item, list) and any(isinstance(each, dict) for each in item)):
            lines.append(f"{indent}{key}:\n{_config_lines(item, indent + '  ')}")
        else:
            lines.append(f"{indent}{key}: {item}")
    return "\n".join(lines)
