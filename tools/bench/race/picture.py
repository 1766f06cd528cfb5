"""The figures of a race as an SVG: a panel for each shape and test, bars in tokens per second, with the range."""
from html import escape
from statistics import median

from race.entries import FORMAT_NAMES, SHAPE_NAMES
from race.table import ratio, speeds

WIDTH, HEIGHT, GAP, TOP, LEFT = 330, 190, 24, 96, 20
ENGINES = ["llama.cpp", "candle", "MLX", "Dacapo"]
STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 11px; fill: #24292f }
  .back { fill: #ffffff } .axis { stroke: #8c959f } .range { stroke: #24292f; opacity: .55 }
  .title { font-size: 16px; font-weight: 600 } .small { font-size: 9.5px } .strong { font-weight: 700 }
  .llamacpp { fill: #9aa4b0 } .candle { fill: #d8b26a } .MLX { fill: #c08bb5 } .Dacapo { fill: #1f6fc0 }
  .inside { font-size: 9.5px; font-weight: 700; fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .back { fill: #0d1117 } .axis { stroke: #6e7681 } .range { stroke: #e6edf3 }
    .llamacpp { fill: #79828d } .candle { fill: #a8853f } .MLX { fill: #94618a } .Dacapo { fill: #4c9bf0 }
    .inside { fill: #0d1117 }
  }
"""


def text(x, y, words, css="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def bars_of(groups, test):
    """For each group its name and bars (engine, label below, values, ratio): of a rival's ways of running the best one."""
    found = []
    for group in groups:
        bars = []
        for entry in sorted(group["entries"], key=lambda e: ENGINES.index(e["engine"])):
            values = speeds(entry, test)
            if not values:
                continue
            bar = (entry["engine"], entry["format"], values, ratio(group, entry, test))
            if bars and bars[-1][:2] == bar[:2]:
                bars[-1] = max(bars[-1], bar, key=lambda b: median(b[2]))
            else:
                bars.append(bar)
        found.append((group["format"], bars))
    return [f for f in found if f[1]]


def panel(x, y, title, groups):
    """Bars of one test, in groups by format."""
    parts = [text(x, y + 12, title, "strong")]
    if not groups:
        return parts + [text(x, y + 40, "not measured")]
    base, high = y + HEIGHT - 30, HEIGHT - 30 - 36
    most = max(max(bar[2]) for _, bars in groups for bar in bars)
    wide = WIDTH / (sum(len(bars) for _, bars in groups) + len(groups))
    at = x
    for format, bars in groups:
        at += wide / 2
        parts.append(text(at + wide * len(bars) / 2, base + 26, FORMAT_NAMES[format], "strong", "middle"))
        for engine, kind, values, times in bars:
            middle, tall = at + wide / 2, high * median(values) / most
            parts.append(f'<rect x="{at + 1:.1f}" y="{base - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}" '
                         f'class="{engine.replace(".", "")}"/>')
            low, top = base - high * min(values) / most, base - high * max(values) / most
            if len(values) > 1:
                parts.append(f'<path d="M{middle:.1f} {low:.1f}V{top:.1f}" class="range"/>')
            value = median(values)
            parts.append(text(middle, top - 4, f"{value:.0f}" if value >= 10 else f"{value:.1f}", "small", "middle"))
            if times:
                parts.append(text(middle, low + 13, f"{times:.1f}x", "inside", "middle"))
            if kind != format:
                parts.append(text(middle, base + 11, "MLX", "small", "middle"))
            at += wide
        at += wide / 2
    parts.append(f'<path d="M{x} {base}H{x + WIDTH}" class="axis"/>')
    return parts


def svg(race):
    """The whole picture, readable on light and dark pages."""
    shapes = list(dict.fromkeys(group["shape"] for group in race["groups"]))
    width = 2 * LEFT + len(race["tests"]) * (WIDTH + GAP) - GAP
    height = TOP + len(shapes) * (HEIGHT + GAP)
    machine, rounds = race["machine"], race["rounds"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
             f'role="img" aria-label="Dacapo against its rivals">', f"<style>{STYLE}</style>",
             '<rect width="100%" height="100%" class="back"/>',
             text(LEFT, 30, "Tokens per second, and how many times the better rival's", "title"),
             text(LEFT, 50, f"{machine['cpu']}, {race['threads']} threads; medians and ranges of {rounds} interleaved "
                            f"round{'' if rounds == 1 else 's'}; random weights; MLX: the MLX 4-bit folder")]
    engines = {e["engine"] for g in race["groups"] for e in g["entries"]}
    for i, engine in enumerate(e for e in ENGINES if e in engines):
        parts.append(f'<rect x="{LEFT + 110 * i}" y="62" width="12" height="12" class="{engine.replace(".", "")}"/>')
        parts.append(text(LEFT + 110 * i + 18, 72, engine))
    for i, shape in enumerate(shapes):
        groups = [group for group in race["groups"] if group["shape"] == shape]
        for j, test in enumerate(race["tests"]):
            title = f"{SHAPE_NAMES.get(shape, shape)}, {test}"
            parts += panel(LEFT + j * (WIDTH + GAP), TOP + i * (HEIGHT + GAP), title, bars_of(groups, test))
    return "\n".join(parts) + "\n</svg>\n"
