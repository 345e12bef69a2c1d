"""The page of the study: one table, how the settings were found, commands, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from studies.page import failures, machine_line, table_lines
from studies.picture import draw
from studies.rules_cells import (
    MISSING,
    Cells,
    Record,
    accuracy_in,
    cells_of,
    comm_share,
    mean_curve,
    megabytes,
    points_from_bsp,
    reading,
    verdict,
)
from studies.rules_plan import (
    CLOSE,
    EXCHANGE,
    FINAL_FACTORS,
    MODEL,
    SUBJECTS,
    Job,
    choose,
    choose_all,
    one_size,
)

_HEAD = (
    "rule", "rate, n = 2", "seed 0", "seed 1", "seed 2", "mean, n = 2", "of n = 4", "n = 4",
    "to bsp, n = 2", "to bsp, n = 4", "within the goal",
)  # fmt: skip
_COSTS = (
    "rule", "images/s", "comm + sync", "MB a worker a step", "rounds a worker",
    "staleness, mean (max)", "consensus distance, mean (max)", "images/s, n = 4",
)  # fmt: skip


_TITLE = "CIFAR-10, two workers, equal samples: mean over the seeds"


def write_report(stages: dict[str, list[Record]], folder: Path, name: str) -> Path:
    """Write `name`.md and `name`.png into `folder`; returns the page's path.

    Raises:
        ValueError: the records are not of one study.
    """
    searched, finals, ran = stages["search"], stages["final"], stages["run"]
    chosen = choose_all(searched, finals)
    finished = [record for record in ran if record["status"] == "finished"]
    one_size(finished)
    # A rule that was never searched (`--only`) is not in the study.
    names = [subject.name for subject in SUBJECTS if subject.name in chosen[2]]
    table = {name: cells_of(finished, name, chosen) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    curves = {rule: mean_curve(cells) for rule, cells in table.items() if mean_curve(cells)}
    parts = [_opening(finished), _accuracies(table, chosen)]
    if curves:
        draw(curves, folder / f"{name}.png", _TITLE, "bsp")
        parts.append(f"![test accuracy against epochs, two workers]({name}.png)\n")
    failed = [record for record in (*searched, *finals, *ran) if record["status"] == "failed"]
    parts += [
        _costs(table),
        _search(searched),
        _finals(finals, 2, _FINALS_OF_TWO),
        _finals(finals, 4, _FINALS_OF_FOUR),
        failures(failed),
        _commands(chosen[2], ran),
    ]
    page = folder / f"{name}.md"
    page.write_text("\n".join(part for part in parts if part))
    return page


def _opening(finished: Sequence[Record]) -> str:
    lines = ["# All rules on CIFAR-10", ""]
    if not finished:
        return "\n".join([*lines, "No run is over yet.", ""])
    job, machines = finished[0]["job"], {machine_line(record) for record in finished}
    samples, epochs = job["samples"], job["epochs"]
    milestones = " and ".join(f"{m:g}" for m in finished[0]["settings"]["schedule.milestones"])
    commits = sorted({record["commit"] for record in finished})
    lines += [
        f"`{MODEL}` ({finished[0]['parameters']:,} parameters), {samples:,} training images,",
        f"{epochs} epochs of all workers together: equal samples for all rules. Batch 64 a worker,",
        "SGD with Nesterov momentum 0.9, random mirror; the learning rate is divided by 10 after",
        f"{milestones} epochs (post-local begins its local steps at the first), and grows with the",
        "number of workers (not for asgd, whose centre adds up what all push). Test accuracy is",
        "of the last epoch, of the consensus of all workers, on the same test images for every n.",
        "Settings were found by an equal small search on training images alone (below).",
        "",
        f"Machine: {'; '.join(sorted(machines))}.",
        "Four workers share its cores, so the speed of n = 4 says nothing about scaling, and",
        "asynchronous workers are more uneven than on cores of their own. All collective rounds go",
        f"over {EXCHANGE}, whose bytes are counted; `auto` is faster. Commit {', '.join(commits)}"
        f"{' (+changes: with changes not committed then)' if '+' in ''.join(commits) else ''}.",
        "",
    ]
    return "\n".join(lines)


def _accuracies(table: dict[str, Cells], chosen: dict[int, dict[str, Record]]) -> str:
    rows = []
    for subject in (subject for subject in SUBJECTS if subject.name in table):
        cells = table[subject.name]
        rule = chosen[2][subject.name]["job"]["rule"]
        two = [accuracy_in(cells, (2, seed)) for seed in (0, 1, 2)]
        known = [value for value in two if value is not None]
        four = accuracy_in(cells, (4, 0))
        apart = [points_from_bsp(table, subject.name, workers) for workers in (2, 4)]
        mean = f"**{fmean(known):.2%}**" if known else MISSING
        whole = len(known) == len(two) and four is not None
        rows.append(
            [
                f"`{rule}`",
                _rate(chosen[2], subject.name),
                *map(_percent, two),
                mean,
                _of_four(chosen, subject.name),
                _percent(four),
                *(_points(value) for value in apart),
                verdict(subject, apart, whole=whole),
            ]
        )
    lines = [
        "## Accuracy",
        "",
        *table_lines(_HEAD, rows),
        "",
        "Rate: the learning rate, of a global batch of 128. Seeds are of n = 2; n = 4 has seed 0.",
        "Differences are points of accuracy, over the seeds that both have. The goal: no more than",
        f"{CLOSE} points below bsp, asgd 1.5, at n = 2 and at n = 4. Runs of settings that a later",
        "stage of the search replaced are in the raw results, and not in this table.",
        "",
    ]
    return "\n".join(lines)


def _costs(table: dict[str, Cells]) -> str:
    rows = []
    for name, cells in table.items():
        two = [record for (workers, _), record in cells.items() if workers == 2]
        if not two:
            rows.append([name, *[MISSING] * (len(_COSTS) - 1)])
            continue
        four = f"{cells[4, 0]['images_per_second']:,.0f}" if (4, 0) in cells else MISSING
        rows.append(
            [
                name,
                f"{fmean(record['images_per_second'] for record in two):,.0f}",
                f"{fmean(map(comm_share, two)):.1%}",
                f"{fmean(map(megabytes, two)):.3f}" + "*" * (not two[0]["wire_bytes"]),
                f"{fmean(r['exchanges'] / 2 for r in two):,.0f}",
                reading(two, "staleness"),
                reading(two, "consensus_distance"),
                four,
            ]
        )
    lines = [
        "## Cost, two workers",
        "",
        *table_lines(_COSTS, rows),
        "",
        "Means over the seeds. comm + sync: their share of all seconds of the steps. Staleness:",
        "visits of others since a worker's last; of gossip, by how many steps sender and receiver",
        "differ. Consensus distance: root mean square of |x_i − mean|, over |mean|, read when",
        "validated. 0 rounds: the rule does not count them.",
        "*: nothing was on a wire, for the centre is in shared memory; this is what as many rounds",
        "would carry between hosts, there and back.",
        "",
    ]
    return "\n".join(lines)


def _search(searched: Sequence[Record]) -> str:
    if not searched:
        return ""
    return _stage(
        searched,
        choose(searched, 2),
        "## The search",
        "",
        "Two workers, seed 0, {epochs} epochs of {samples:,} training images; accuracy on {held:,}",
        "other training images. Bold: chosen. The last two candidates of each rule were added, for",
        "all rules alike, after the first runs of bsp, easgd and gosgd: twice the learning rate",
        "had lost everywhere, and gosgd lagged by 1.2.",
    )


_FINALS_OF_TWO = (
    "Then what was best, and the same at {factor:g} of the rate, for all rules alike, two workers:",
    "{epochs} epochs of {samples:,} training images, accuracy on {held:,} others. This was added",
    "when the first runs of the whole (seed 0) had slowmo 3.1 and diloco 1.4 points behind bsp: so",
    "short a search likes rates at which a longer training stays noisy.",
)
_FINALS_OF_FOUR = (
    "The same once more for four workers, of what was chosen for two: their rate is multiplied by",
    "four. With the settings of two the first run of gosgd was 2.2 points behind bsp, and at 0.6",
    "of the rate 2.0; so the third candidate binds four workers more closely (rules that have",
    "nothing to bind try another rate).",
)


def _finals(finals: Sequence[Record], workers: int, words: Sequence[str]) -> str:
    records = [record for record in finals if record["job"]["workers"] == workers]
    return _stage(records, choose(records, workers), *words) if records else ""


def _stage(records: Sequence[Record], chosen: dict[str, Record], *words: str) -> str:
    """A stage of the search: `words`, in which its size is put, and a row a candidate."""
    job = records[0]["job"]
    size = {"epochs": job["epochs"], "samples": job["samples"], "held": job["samples"] // 2}
    size["factor"] = FINAL_FACTORS[1]
    rows = [_candidate(record, chosen) for record in records]
    table = table_lines(("candidate", "learning rate", "accuracy"), rows)
    return "\n".join([*(line.format(**size) for line in words), "", *table, ""])


def _candidate(record: Record, chosen: dict[str, Record]) -> list[str]:
    it = record["job"]
    good = record["status"] == "finished"
    best = record is chosen.get(it["subject"])
    accuracy = f"{record['accuracy'][-1]:.2%}" if good else "failed"
    return [f"`{it['rule']}`", f"{it['learning_rate']:g}", f"**{accuracy}**" if best else accuracy]


def _commands(chosen: dict[str, Record], ran: Sequence[Record]) -> str:
    stages = ("search", "final", "final --workers 4", "run")
    lines = [
        "## Commands",
        "",
        "```console",
        "$ OUT=benchmarks/results/rules-study",
        *(f"$ python benchmarks/rules_study.py {it} --data DIR --out $OUT" for it in stages),
        "$ python benchmarks/rules_study.py report --out $OUT",
        "```",
        "",
        "All raw results, each with its own command, stand there: `search.jsonl`, `final.jsonl`,",
        "`run.jsonl`. What `run` starts for each rule (other seeds alike; n = 4 at its own rate):",
        "",
        "```console",
    ]
    size = ran[0]["job"] if ran else None
    for record in chosen.values():
        fixed = {} if size is None else {key: size[key] for key in ("epochs", "samples", "stage")}
        lines.append("$ arignote " + " ".join(_brief(Job(**{**record["job"], **fixed}))))
    return "\n".join([*lines, "```", ""])


def _brief(job: Job) -> list[str]:
    """Quoted only where a shell needs it."""
    words = job.arguments("DIR", "RUN")
    return [f"'{word}'" if set(word) & set(' "[]') else word for word in words]


def _of_four(chosen: dict[int, dict[str, Record]], name: str) -> str:
    """The rate, and the rule where it is another than that of two workers."""
    rule = chosen[4][name]["job"]["rule"]
    other = "" if rule == chosen[2][name]["job"]["rule"] else f"`{rule}`, "
    return other + _rate(chosen[4], name)


def _rate(chosen: dict[str, Record], name: str) -> str:
    return f"{chosen[name]['job']['learning_rate']:g}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2%}"


def _points(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}"
