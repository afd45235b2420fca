"""The result of a search as lines for a terminal."""

from godwit.indexcache.result import SearchResult


def table(result: SearchResult) -> str:
    """Every flip, then the searched plans beside the others, then the work."""
    return "\n".join([*_head(result), "", *_flips(result), "", *_ratios(result), "", *_work(result)])


def _head(result: SearchResult) -> list[str]:
    counted = "every next token" if result.objective == "all" else f"the {result.num_counted:,} that need long context"
    return [
        f"{result.model}: {result.num_layers} layers, each query keeps {result.topk} positions",
        f"losses are nats per token over {result.num_tokens:,} tokens ({counted}), rows of {result.seq_len:,}",
        f"with all {result.start.count('F')} indexers: {result.full_loss:.4f}",
    ]


def _flips(result: SearchResult) -> list[str]:
    lines = ["flip  layer  keeps    loss   change  plan"]
    for place, (layer, loss) in enumerate(zip(result.order, result.losses), start=1):
        keeps, change = result.start.count("F") - place, loss / result.full_loss - 1
        lines.append(f"{place:>4}  {layer:>5}  {keeps:>5}  {loss:>6.4f}  {change:>+7.2%}  {result.plan_after(place)}")
    return lines


def _ratios(result: SearchResult) -> list[str]:
    others = [*([] if result.refined is None else [result.refined]), *result.baselines]
    if not others:
        return ["not compared with other plans"]
    lines = ["keeps  chosen by     loss   change  plan"]
    for count in sorted({other.num_full for other in others}, reverse=True):
        flips = result.num_flips_at(count)
        rows = [("search", str(result.plan_after(flips)), result.loss_after(flips))]
        rows += [(each.name, each.pattern, each.loss) for each in others if each.num_full == count]
        lines += [
            f"{count:>5}  {name:<10}  {loss:>6.4f}  {loss / result.full_loss - 1:>+7.2%}  {pattern}"
            for name, pattern, loss in rows
        ]
    return lines


def _work(result: SearchResult) -> list[str]:
    counters = result.counters
    share = counters.layer_evaluations / counters.naive_layer_evaluations
    lines = [
        f"work: {counters.layer_evaluations:,} layer evaluations, {share:.0%} of the "
        f"{counters.naive_layer_evaluations:,} of whole forward passes "
        f"({counters.plan_evaluations:,} plans, {counters.naive_plan_evaluations:,} there)"
    ]
    if result.refined is not None:
        lines.append(f"and {counters.refine_plan_evaluations} plans in which one indexer stands elsewhere")
    if counters.lazy_steps_checked:
        lines.append(
            f"the lazy choice was the full search's in {counters.lazy_steps_agreed} of {counters.lazy_steps_checked} "
            "steps that were checked"
        )
    return lines
