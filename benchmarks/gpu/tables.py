"""The results of all steps as Markdown."""

from itertools import chain
from statistics import median


def report(results, steps):
    """One text: what each step found, and all that failed."""
    rows, plan = results.read("row"), next(iter(results.read("plan")), {})
    device, torch, transformers = (plan.get(fact, "unknown") for fact in ("device", "torch", "transformers"))
    parts = [f"## On a GPU: {device}, torch {torch}, transformers {transformers}"]
    for step in steps:
        own = [row for row in rows if row["step"] == step.name]
        parts += [f"### {step.title}", summary(step, own, results), *TABLES[step.name](own)]
    failed = [row for row in rows if row["ok"] is False]
    if failed:
        parts += ["### What failed", failures(failed)]
    return "\n\n".join(filter(None, parts)) + "\n"


def summary(step, rows, results):
    """How a step went, and what of it was not run to its end."""
    counts = {verdict: sum(row["ok"] is verdict for row in rows) for verdict in (True, False, None)}
    text = f"Rows: {counts[True]} good, {counts[False]} failed, {counts[None]} not judged."
    left = unfinished(results, step)
    return f"{text} Not run, or not to the end: {'; '.join(left)}." if left else text


def unfinished(results, step):
    """The cells of a step that did not end; the step itself where it has no plan."""
    plans = results.read("plan", step.name)
    ended = {line["cell"] for line in results.read("end", step.name)}
    return [cell for cell in plans[0]["cells"] if cell not in ended] if plans else [step.name]


def table(header, rows):
    """A Markdown table; None without rows."""
    lines = [[str(cell).replace("|", "/").replace("\n", " ") for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else None


def failures(rows):
    """Where, and by how much or with which words."""
    header = ["step", "cell", "what", "backend", "found"]
    return table(header, [[row["step"], row["cell"], row["what"], row.get("backend", ""), found(row)] for row in rows])


def found(row):
    """What a failed row found, in short."""
    if "error_text" in row:
        return row["error_text"].strip()[-300:]
    names = ("error", "allowed", "worst", "worst_allowed", "lse_error", "lse_allowed", "lost", "lost_allowed")
    return ", ".join(f"{name} {row[name]:.2g}" for name in names if name in row)


def share(row):
    """How much of its budget a judged row took."""
    return max(row["error"] / row["allowed"], row["worst"] / row["worst_allowed"])


def verdict(rows):
    """How many judged rows are good, and how much of its budget the worst of them took."""
    if not rows:
        return ""
    shares = [share(row) for row in rows if "allowed" in row]
    good = f"{sum(row['ok'] for row in rows)}/{len(rows)}"
    return f"{good}, {max(shares):.2f}" if shares else good


def pivot(rows, across, down):
    """The verdict on the rows that two keys have in common."""
    columns, lines = (list(dict.fromkeys(map(key, rows))) for key in (across, down))

    def of(line, column):
        return verdict([row for row in rows if (down(row), across(row)) == (line, column)])

    return table(["", *columns], [[line, *(of(line, column) for column in columns)] for line in lines])


def kernels(rows):
    judged = [row for row in rows if row["ok"] is not None and row["dtype"]]
    noted = dict.fromkeys((row["what"], row["note"]) for row in rows if "note" in row)
    yield "Good of all head dimensions, and the largest share of the budget:"
    yield pivot(judged, lambda row: row["dtype"], lambda row: row["what"])
    yield table(["torch's own kernel, and what was not run", "what was seen"], list(noted))


def served(rows):
    yield "Good, and the largest share of the budget:"
    judged = [row for row in rows if row["ok"] is not None]
    yield pivot(judged, lambda row: row["what"], lambda row: f"{row['cell']}, {row['dtype']}")
    yield table(["what was not run"], [[row["note"]] for row in rows if "note" in row])


def methods(rows):
    judged = [row for row in rows if "backend" in row]

    def column(row):
        return f"{row['dtype']}, {row['backend']}"

    yield "Good of all cases, and the largest share of the budget:"
    yield pivot(judged, column, lambda row: row["what"])
    yield "Good of all uses, and the largest share of the budget:"
    yield pivot(judged, column, lambda row: f"{row['case']}{', long' * (row['shape'] == 'long')}")


def speed(rows):
    header = ["model", "tokens", "prefill", "to the base", "step", "to the base", "first step", "peak", "waits"]
    yield "Medians. Peak: MiB, and to the base. Waits: of a step for the GPU, and of the base's step."
    yield table(header, [speed_line(row) for row in rows if "prefill" in row])
    lines = []
    for row in rows:
        if row.get("heaviest"):
            lines.append([row["model"], ", ".join(f"{name} {part:.0%}" for name, part in row["heaviest"])])
    yield table(["model", "kernels of a prefill, and their shares"], lines)


def speed_line(row):
    """A model's figures beside the base's."""
    prefill, base_prefill = median(row["prefill"]), median(row["base_prefill"])
    step, base_step = (median(chain.from_iterable(row[key])) for key in ("steps", "base_steps"))
    peak = ""
    if row["peak"][0] is not None:
        peak = f"{max(row['peak']):.0f}, {max(row['peak']) / max(row['base_peak']):.2f}"
    return [
        row["model"],
        row["length"],
        f"{prefill:.2f} s",
        f"{prefill / base_prefill:.2f}",
        f"{1000 * step:.1f} ms",
        f"{step / base_step:.2f}",
        f"{1000 * median(row['first_step']):.1f} ms",
        peak,
        f"{row['waits'][0]}, {row['base_waits'][0]}",
    ]


def host(rows):
    header = ["model", "batch", "step, ms", "host, ms", "kernels, ms", "launches", "waits warned of", "waits profiled"]
    keys = ("step_ms", "host_ms", "kernels_ms", "launches", "waits", "stream_waits")
    lines = [[row["model"], row["batch"], *(number(row[key]) for key in keys)] for row in rows if "host_ms" in row]
    yield "Until the GPU has done a step, by CUDA events; until the host has asked for it; the sum of its kernels:"
    yield table(header, lines)


def number(figure):
    """Few digits."""
    return f"{figure:.2f}" if isinstance(figure, float) else figure


def compiled(rows):
    judged = [row for row in rows if "allowed" in row]
    graphs = {row["cell"]: row for row in rows if "graphs" in row}
    lines = []
    for row in judged:
        of = graphs.get(row["cell"], {"graphs": "", "breaks": []})
        figures = f"{share(row):.2f}", f"{row['seconds']:.0f}", of["graphs"], "; ".join(of["breaks"])[:200]
        lines.append([row["cell"], row["ok"], *figures])
    yield table(["case and use", "good", "share of the budget", "seconds", "graphs", "breaks"], lines)


def quality(rows):
    states = {True: "done", None: "its time was up: --resume goes on", False: "failed"}
    jobs = [row for row in rows if row["what"] == "job"]
    yield table(["job", "", "seconds"], [[row["cell"], states[row["ok"]], f"{row['seconds']:.0f}"] for row in jobs])
    noted = dict.fromkeys((row["what"], row["note"]) for row in rows if "note" in row)
    yield table(["RULER's task", ""], list(noted))


TABLES = {"kernels": kernels, "paged": kernels, "methods": methods, "speed": speed, "host": host, "served": served}
TABLES |= {"compiled": compiled, "quality": quality}
