"""What a report shows of a run that trains indexers: whether they choose what the layers attend to.

    recall        share of a layer's dense attention on what its indexer selects
    divergence    KL of that attention from the indexer's distribution
    gap           loss over the selection less the loss with dense attention, same weights, same rows

An indexer that several layers share is as good as the layer it serves worst, so that layer is named. Everything comes
from the rows of `metrics.jsonl`.
"""

from statistics import fmean
from typing import Any

from godwit.nn.share_plan import SharePlan
from godwit.train.plots import COLOURS, Curve, line_plot

Row = dict[str, Any]
Plot = tuple[str, str, str]
"""Title, note, SVG."""


def index_plots(trained: list[Row], validated: list[Row]) -> list[Plot]:
    """Plots of the indexers' progress; none for a run that leaves indexers alone."""
    taught = [row for row in trained if "index_kl" in row]
    seen = [row for row in validated if "index_recall" in row]
    if not taught and not seen:
        return []
    plots = []
    if seen:
        gap = [
            _curve(seen, lambda row: row["valid_loss"], "over the selection"),
            _curve(seen, lambda row: row["dense_loss"], "dense attention"),
        ]
        plots.append(("Loss gap to dense attention", "validation, the same weights", line_plot(gap, ylabel="loss")))
        recall = [
            _curve(seen, lambda row: fmean(row["index_recall"]), "mean layer"),
            _curve(seen, lambda row: min(row["index_recall"]), "worst layer"),
            *_worst_indexers(seen),
        ]
        note = "share of dense attention on the selected positions; indexer n: the layer it serves worst"
        plots.append(("Attention recalled", note, line_plot(recall, ylabel="recall")))
    divergence = []
    for rows, key, name in ((taught, "index_kl", "training"), (seen, "valid_index_kl", "validation")):
        if rows:
            divergence.append(_curve(rows, lambda row, key=key: fmean(row[key]), f"{name}, mean"))
            divergence.append(_curve(rows, lambda row, key=key: max(row[key]), f"{name}, worst"))
    note = "of attention from the indexers' distribution, a token; training looks at what the stage's loss looks at"
    return [*plots, ("Indexers' divergence", note, line_plot(divergence, ylabel="KL, nats", log=True))]


def index_table(validated: list[Row], config: Row) -> str:
    """The last validation by indexer: whom it serves, how well, and whom worst. Empty if none was measured."""
    seen = [row for row in validated if "index_recall" in row]
    if not seen:
        return ""
    recall, divergence = seen[-1]["index_recall"], seen[-1]["valid_index_kl"]
    model = config["model"]
    plan = SharePlan.parse(model["indexer_types"], model["num_hidden_layers"])
    cells = []
    for served in plan.groups:
        worst = min(served, key=lambda layer: recall[layer])
        layers = f"{served[0]}" if len(served) == 1 else f"{served[0]} to {served[-1]}"
        values = (served[0], layers, f"{recall[served[0]]:.3f}", f"{recall[worst]:.3f} (layer {worst})")
        kls = (f"{divergence[served[0]]:.3f}", f"{max(divergence[layer] for layer in served):.3f}")
        cells.append("".join(f"<td>{value}</td>" for value in (*values, *kls)))
    head = "".join(
        f"<td>{name}</td>" for name in ("indexer", "serves layers", "recall, own", "worst", "KL, own", "worst")
    )
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    return (
        f'<h2>Indexers</h2><p class="note">validation at step {seen[-1]["step"]}; recall: share of the layer\'s dense '
        f"attention on the {model['index_topk']} positions selected; plan {plan}</p>"
        f"<table><tr>{head}</tr>{rows}</table>"
    )


def _worst_indexers(seen: list[Row]) -> list[Curve]:
    """The worst-served layer of each indexer, for as many indexers (the worst at the end) as there are colours."""
    last = seen[-1]["index_recall_worst"]
    if len(last) < 2:
        return []
    shown = sorted(sorted(range(len(last)), key=lambda place: last[place])[: len(COLOURS) - 2])
    return [_curve(seen, lambda row, n=n: row["index_recall_worst"][n], f"indexer {n}") for n in shown]


def _curve(rows: list[Row], value: Any, name: str) -> Curve:
    return Curve(
        steps=[row["step"] for row in rows], values=[value(row) for row in rows], name=name, dots=len(rows) < 30
    )
