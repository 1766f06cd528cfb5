"""The figures of a race as Markdown."""
from statistics import median

from race.entries import SHAPE_NAMES


def speeds(entry, test):
    """What an entry measured in a test, one value for each round; fewer where it could not."""
    return [run["speeds"][test] for run in entry["runs"] if run["speeds"].get(test)]


def column(entry, key):
    return [run[key] for run in entry["runs"] if run.get(key) is not None]


def spread(values, digits=1):
    """Median (least-greatest)."""
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def best_rival(group, test):
    """The best median that a rival reached in a group, or None."""
    medians = [median(speeds(e, test)) for e in group["entries"] if e["engine"] != "Dacapo" and speeds(e, test)]
    return max(medians, default=None)


def ratio(group, entry, test):
    """How many times as fast as the better rival, by medians; None for rivals and where there is nothing to compare."""
    values, rival = speeds(entry, test), best_rival(group, test)
    return median(values) / rival if entry["engine"] == "Dacapo" and values and rival else None


def speed_cell(group, entry, test):
    values = speeds(entry, test)
    if not values:
        return "-"
    times = ratio(group, entry, test)
    return spread(values) + (f" **{times:.2f}x**" if times else "")


def memory_share(race, group, entry, test):
    """Share of the memory's speed at which a test reads weights and caches: those that Dacapo reads from the same file."""
    same = [e for e in group["entries"] if e["engine"] == "Dacapo" and e["file"] == entry["file"] and e["runs"]]
    bytes_ = same and same[0]["runs"][0].get("bytes_per_token", {}).get(test)
    values = speeds(entry, test)
    return median(values) * bytes_ / median(race["bandwidth"]) if bytes_ and values else None


def row(race, group, entry):
    tests = race["tests"]
    cells = [entry["name"]] + [speed_cell(group, entry, test) for test in tests]
    generation = next((test for test in tests if test.startswith("generation")), None)
    share = memory_share(race, group, entry, generation)
    loads, peaks = column(entry, "load_s"), column(entry, "peak_memory_bytes")
    cells.append(f"{share:.0%}" if share else "-")
    cells.append(spread(loads, 2) if loads else "-")
    cells.append(f"{median(peaks) / 1e6:.0f}, {median(peaks) / entry['file_bytes']:.2f}x" if peaks else "-")
    return "| " + " | ".join(cells) + " |"


def machine_line(race):
    m, bandwidth = race["machine"], race["bandwidth"]
    return (f"{m['cpu']}, {m['cores']} cores ({', '.join(m['flags']) or 'no flags known'}), {race['threads']} threads; "
            f"{m['memory_bytes'] / 1e9:.0f} GB of memory, read at {spread([b / 1e9 for b in bandwidth])} GB/s; "
            f"huge pages: {m['huge_pages']}; {m['libc']}, Linux {m['kernel']}; load {m['load']:.1f} at the start.")


def markdown(race):
    """One table for each shape, with what it was measured on."""
    lines = [machine_line(race), "", "; ".join(race["versions"]) + f". Rounds: {race['rounds']}.", ""]
    for shape in dict.fromkeys(group["shape"] for group in race["groups"]):
        title = SHAPE_NAMES.get(shape, shape)
        lines.append(f"| {title}: tokens/s, median (range) | " + " | ".join(race["tests"])
                     + " | of memory's speed | load, s | peak MB, of the file |")
        lines.append("|---" * (len(race["tests"]) + 4) + "|")
        for group in race["groups"]:
            if group["shape"] == shape:
                lines += [row(race, group, entry) for entry in group["entries"]]
        lines.append("")
    lines.append("Bold: times the better rival of the same test, shape and width of weights.")
    return "\n".join(lines + failures(race))


def failures(race):
    lines = [f"{g['shape']}: {e['name']} {e['failed']}" for g in race["groups"] for e in g["entries"] if e["failed"]]
    return ["", *lines] if lines else []
